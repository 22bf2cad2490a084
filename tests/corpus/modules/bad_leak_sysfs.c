// SPDX-License-Identifier: GPL-2.0-only
/*
 * bad_leak_sysfs - bad: each load leaves a directory in /sys/kernel behind.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include "corpus.h"
#include "corpus_cmdline.inc.c"

static int corpus_pre_patch(struct klp_object *obj)
{
	char name[32];

	snprintf(name, sizeof(name), "corpus-%lld", ktime_get_ns());
	return kobject_create_and_add(name, kernel_kobj) ? 0 : -ENOMEM;
}

static struct klp_func corpus_funcs[] = {
	CORPUS_CMDLINE,
	{ }
};

#define CORPUS_CALLBACKS { .pre_patch = corpus_pre_patch }

#include "corpus_patch.inc.c"

MODULE_DESCRIPTION("Livepatch corpus: directories in sysfs are left behind");
