// SPDX-License-Identifier: GPL-2.0-only
/*
 * good_two_objects - good: a function of vmlinux and one of a module.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include "corpus.h"
#include "corpus_cmdline.inc.c"

static __corpus_noipa const char *corpus_new_text(int *number)
{
	return "patched";
}

static struct klp_func corpus_funcs[] = {
	CORPUS_CMDLINE,
	{ }
};

static struct klp_func corpus_target_funcs[] = {
	{ .old_name = "corpus_text", .new_func = corpus_new_text },
	{ }
};

#define CORPUS_OTHER_OBJECT	{ .name = "corpus_target", .funcs = corpus_target_funcs }

#include "corpus_patch.inc.c"

MODULE_DESCRIPTION("Livepatch corpus: two objects");
