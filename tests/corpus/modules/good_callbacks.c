// SPDX-License-Identifier: GPL-2.0-only
/*
 * good_callbacks - good: what pre_patch allocates, post_unpatch frees.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include "corpus.h"
#include "corpus_cmdline.inc.c"

static void *corpus_table;

static int corpus_pre_patch(struct klp_object *obj)
{
	corpus_table = kzalloc(PAGE_SIZE, GFP_KERNEL);
	return corpus_table ? 0 : -ENOMEM;
}

static void corpus_post_patch(struct klp_object *obj)
{
	pr_info("table of %zu bytes in use\n", ksize(corpus_table));
}

static void corpus_post_unpatch(struct klp_object *obj)
{
	kfree(corpus_table);
	corpus_table = NULL;
}

static struct klp_func corpus_funcs[] = {
	CORPUS_CMDLINE,
	{ }
};

#define CORPUS_CALLBACKS { \
	.pre_patch = corpus_pre_patch, \
	.post_patch = corpus_post_patch, \
	.post_unpatch = corpus_post_unpatch, \
}

#include "corpus_patch.inc.c"

MODULE_DESCRIPTION("Livepatch corpus: callbacks that allocate and free");
