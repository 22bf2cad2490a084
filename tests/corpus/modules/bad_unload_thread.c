// SPDX-License-Identifier: GPL-2.0-only
/*
 * bad_unload_thread - bad: a kthread of its own still runs when the module is unloaded.
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

static struct klp_func corpus_funcs[] = {
	CORPUS_CMDLINE,
	{ }
};

#define CORPUS_CALLBACKS	{ .post_patch = corpus_post_patch }

#include "corpus_patch.inc.c"

MODULE_DESCRIPTION("Livepatch corpus: a kthread that is not stopped");
