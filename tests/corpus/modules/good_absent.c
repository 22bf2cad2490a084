// SPDX-License-Identifier: GPL-2.0-only
/*
 * good_absent - good: beside a function of vmlinux, one of a module that is
 * not installed.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include "corpus.h"
#include "corpus_cmdline.inc.c"

static __corpus_noipa int corpus_new_probe(void)
{
	return 0;
}

static struct klp_func corpus_funcs[] = {
	CORPUS_CMDLINE,
	{ }
};

static struct klp_func corpus_absent_funcs[] = {
	{ .old_name = "corpus_probe", .new_func = corpus_new_probe },
	{ }
};

#define CORPUS_OTHER_OBJECT	{ .name = "corpus_absent", .funcs = corpus_absent_funcs }

#include "corpus_patch.inc.c"

MODULE_DESCRIPTION("Livepatch corpus: a target that is never loaded");
