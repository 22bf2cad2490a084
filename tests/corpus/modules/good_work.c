// SPDX-License-Identifier: GPL-2.0-only
/*
 * good_work - good: work of its own from post_patch to post_unpatch.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/workqueue.h>

#include "corpus.h"
#include "corpus_cmdline.inc.c"

static void corpus_work_fn(struct work_struct *work)
{
	schedule_delayed_work(to_delayed_work(work), HZ / 10);
}

static DECLARE_DELAYED_WORK(corpus_work, corpus_work_fn);

static void corpus_post_patch(struct klp_object *obj)
{
	schedule_delayed_work(&corpus_work, HZ / 10);
}

static void corpus_post_unpatch(struct klp_object *obj)
{
	cancel_delayed_work_sync(&corpus_work);
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

MODULE_DESCRIPTION("Livepatch corpus: work that is cancelled");
