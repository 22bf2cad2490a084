// SPDX-License-Identifier: GPL-2.0-only
/*
 * bad_leak_memory - bad: pre_patch allocates 32 objects, post_unpatch frees the last.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include "corpus.h"
#include "corpus_cmdline.inc.c"

static void *corpus_table;

static int corpus_pre_patch(struct klp_object *obj)
{
	int n;

	for (n = 0; n < 32; n++) {
		corpus_table = kzalloc(1000, GFP_KERNEL);
		if (!corpus_table)
			return -ENOMEM;
	}
	return 0;
}

static void corpus_post_unpatch(struct klp_object *obj)
{
	kfree(corpus_table);
}

static struct klp_func corpus_funcs[] = {
	CORPUS_CMDLINE,
	{ }
};

#define CORPUS_CALLBACKS { \
	.pre_patch = corpus_pre_patch, \
	.post_unpatch = corpus_post_unpatch, \
}

#include "corpus_patch.inc.c"

MODULE_DESCRIPTION("Livepatch corpus: memory leaks in each cycle");
