// SPDX-License-Identifier: GPL-2.0-only
/*
 * bad_everyone - bad: the thread that runs rcu_gp_kthread() never leaves it, so
 * the transition never ends.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include "corpus.h"

static __corpus_noipa int corpus_gp_kthread(void *unused)
{
	return 0;
}

static struct klp_func corpus_funcs[] = {
	{ .old_name = "rcu_gp_kthread", .new_func = corpus_gp_kthread },
	{ }
};

#include "corpus_patch.inc.c"

MODULE_DESCRIPTION("Livepatch corpus: a function on many stacks");
