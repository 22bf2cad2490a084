// SPDX-License-Identifier: GPL-2.0-only
/*
 * bad_atomic_sleep - bad: post_patch may sleep while it holds a spinlock. Only a kernel
 * with DEBUG_ATOMIC_SLEEP reports it.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/spinlock.h>

#include "corpus.h"
#include "corpus_cmdline.inc.c"

static DEFINE_SPINLOCK(corpus_lock);
static void *corpus_table;

static void corpus_post_patch(struct klp_object *obj)
{
	spin_lock(&corpus_lock);
	corpus_table = kzalloc(256, GFP_KERNEL);
	spin_unlock(&corpus_lock);
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
	.post_patch = corpus_post_patch, \
	.post_unpatch = corpus_post_unpatch, \
}

#include "corpus_patch.inc.c"

MODULE_DESCRIPTION("Livepatch corpus: sleeps in atomic context");
