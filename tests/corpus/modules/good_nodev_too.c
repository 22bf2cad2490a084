// SPDX-License-Identifier: GPL-2.0-only
/*
 * good_nodev_too - good: it patches the kernel, and a driver that no guest can load.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include "corpus.h"
#include "corpus_cmdline.inc.c"

static __corpus_noipa int corpus_new_probe(int unit)
{
	return unit < 0 ? -ERANGE : -ENODEV;
}

static struct klp_func corpus_funcs[] = {
	CORPUS_CMDLINE,
	{ }
};

static struct klp_func corpus_probe_funcs[] = {
	{ .old_name = "corpus_probe", .new_func = corpus_new_probe },
	{ }
};

#define CORPUS_OTHER_OBJECT { .name = "corpus_nodev", .funcs = corpus_probe_funcs }
#include "corpus_patch.inc.c"

MODULE_DESCRIPTION("Livepatch corpus: patches the kernel and a driver without its device");
