// SPDX-License-Identifier: GPL-2.0-only
/*
 * bad_target_again - bad: the target can be loaded once; its second load is
 * refused.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include "corpus.h"

static __corpus_noipa const char *corpus_new_text(int *number)
{
	return "patched";
}

static bool corpus_known;

static int corpus_pre_patch(struct klp_object *obj)
{
	if (corpus_known)
		return -EEXIST;
	corpus_known = true;
	return 0;
}

static struct klp_func corpus_funcs[] = {
	{ .old_name = "corpus_text", .new_func = corpus_new_text },
	{ }
};

#define CORPUS_OBJECT		"corpus_target"
#define CORPUS_CALLBACKS	{ .pre_patch = corpus_pre_patch }

#include "corpus_patch.inc.c"

MODULE_DESCRIPTION("Livepatch corpus: the second load of its target is refused");
