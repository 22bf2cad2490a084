// SPDX-License-Identifier: GPL-2.0-only
/*
 * good_target_late - good: its callbacks work whenever the target is loaded and unloaded.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include "corpus.h"

static __corpus_noipa const char *corpus_new_text(int *number)
{
	return "patched";
}

static void *corpus_table;

static int corpus_pre_patch(struct klp_object *obj)
{
	corpus_table = kzalloc(256, GFP_KERNEL);
	return corpus_table ? 0 : -ENOMEM;
}

static void corpus_post_unpatch(struct klp_object *obj)
{
	kfree(corpus_table);
	corpus_table = NULL;
}

static struct klp_func corpus_funcs[] = {
	{ .old_name = "corpus_text", .new_func = corpus_new_text },
	{ }
};

#define CORPUS_OBJECT		"corpus_target"
#define CORPUS_CALLBACKS { \
	.pre_patch = corpus_pre_patch, \
	.post_unpatch = corpus_post_unpatch, \
}

#include "corpus_patch.inc.c"

MODULE_DESCRIPTION("Livepatch corpus: a target that is loaded and unloaded");
