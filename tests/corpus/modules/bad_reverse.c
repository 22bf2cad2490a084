// SPDX-License-Identifier: GPL-2.0-only
/*
 * bad_reverse - bad: post_unpatch uses what post_patch has allocated. When
 * enabling is reversed, post_patch has not run.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include "corpus.h"
#include "corpus_cmdline.inc.c"

struct corpus_table {
	void *rows;
	int used;
};

static struct corpus_table *corpus_table;

static void corpus_post_patch(struct klp_object *obj)
{
	corpus_table = kzalloc(sizeof(*corpus_table), GFP_KERNEL);
}

static void corpus_post_unpatch(struct klp_object *obj)
{
	kfree(corpus_table->rows);
	kfree(corpus_table);
}

static struct klp_func corpus_funcs[] = {
	CORPUS_CMDLINE,
	{ }
};

#define CORPUS_CALLBACKS { \
	.post_patch = corpus_post_patch, \
	.post_unpatch = corpus_post_unpatch, \
}

#include "corpus_patch.inc.c"

MODULE_DESCRIPTION("Livepatch corpus: breaks when its transition is reversed");
