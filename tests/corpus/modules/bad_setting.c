// SPDX-License-Identifier: GPL-2.0-only
/*
 * bad_setting - bad: a sysctl that it sets is not restored.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/kernel.h>
#include "corpus.h"
#include "corpus_cmdline.inc.c"

static int corpus_pre_patch(struct klp_object *obj)
{
	panic_timeout = 30;
	return 0;
}

static struct klp_func corpus_funcs[] = {
	CORPUS_CMDLINE,
	{ }
};

#define CORPUS_CALLBACKS { .pre_patch = corpus_pre_patch }

#include "corpus_patch.inc.c"

MODULE_DESCRIPTION("Livepatch corpus: a setting is not restored");
