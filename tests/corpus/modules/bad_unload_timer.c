// SPDX-License-Identifier: GPL-2.0-only
/*
 * bad_unload_timer - bad: a timer of its own still runs when the module is unloaded.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/timer.h>

#include "corpus.h"
#include "corpus_cmdline.inc.c"

static void corpus_tick(struct timer_list *timer)
{
	mod_timer(timer, jiffies + HZ / 20);
}

static DEFINE_TIMER(corpus_timer, corpus_tick);

static void corpus_post_patch(struct klp_object *obj)
{
	mod_timer(&corpus_timer, jiffies + HZ / 20);
}

static struct klp_func corpus_funcs[] = {
	CORPUS_CMDLINE,
	{ }
};

#define CORPUS_CALLBACKS	{ .post_patch = corpus_post_patch }

#include "corpus_patch.inc.c"

MODULE_DESCRIPTION("Livepatch corpus: a timer that is not stopped");
