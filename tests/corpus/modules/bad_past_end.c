// SPDX-License-Identifier: GPL-2.0-only
/*
 * bad_past_end - bad: post_patch writes one byte past the end of what it allocated.
 * Only a kernel with KASAN or red zones reports it.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include "corpus.h"
#include "corpus_cmdline.inc.c"

#define CORPUS_SIZE	100

static char *corpus_table;

static int corpus_pre_patch(struct klp_object *obj)
{
	corpus_table = kzalloc(CORPUS_SIZE, GFP_KERNEL);
	return corpus_table ? 0 : -ENOMEM;
}

static void corpus_post_patch(struct klp_object *obj)
{
	int n;

	for (n = 0; n <= CORPUS_SIZE; n++)
		WRITE_ONCE(corpus_table[n], 'x');
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
	.post_patch = corpus_post_patch, \
	.post_unpatch = corpus_post_unpatch, \
}

#include "corpus_patch.inc.c"

MODULE_DESCRIPTION("Livepatch corpus: writes past the end of an object");
