// SPDX-License-Identifier: GPL-2.0-only
/*
 * good_thread - good: a kthread of its own from post_patch to pre_unpatch.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/delay.h>
#include <linux/kthread.h>

#include "corpus.h"
#include "corpus_cmdline.inc.c"

static struct task_struct *corpus_task;

static int corpus_thread(void *unused)
{
	while (!kthread_should_stop())
		msleep(50);
	return 0;
}

static void corpus_post_patch(struct klp_object *obj)
{
	corpus_task = kthread_run(corpus_thread, NULL, KBUILD_MODNAME);
}

static void corpus_pre_unpatch(struct klp_object *obj)
{
	if (!IS_ERR_OR_NULL(corpus_task))
		kthread_stop(corpus_task);
	corpus_task = NULL;
}

static struct klp_func corpus_funcs[] = {
	CORPUS_CMDLINE,
	{ }
};

#define CORPUS_CALLBACKS { \
	.post_patch = corpus_post_patch, \
	.pre_unpatch = corpus_pre_unpatch, \
}

#include "corpus_patch.inc.c"

MODULE_DESCRIPTION("Livepatch corpus: a kthread that ends");
