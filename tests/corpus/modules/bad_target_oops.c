// SPDX-License-Identifier: GPL-2.0-only
/*
 * bad_target_oops - bad: it allocates a table when the target is first loaded and
 * frees it when the target is unloaded; the second load of the target finds none.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include "corpus.h"

static __corpus_noipa const char *corpus_new_text(int *number)
{
	return "patched";
}

static int *corpus_table;
static bool corpus_known;

static int corpus_pre_patch(struct klp_object *obj)
{
	if (!corpus_known) {
		corpus_table = kcalloc(16, sizeof(*corpus_table), GFP_KERNEL);
		if (!corpus_table)
			return -ENOMEM;
		corpus_known = true;
	}
	corpus_table[0]++;
	return 0;
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

MODULE_DESCRIPTION("Livepatch corpus: an oops when its target is loaded again");
