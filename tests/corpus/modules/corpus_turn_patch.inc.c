// SPDX-License-Identifier: GPL-2.0-only
/*
 * The code of a livepatch of corpus_turn() in CORPUS_OBJECT, a target made of
 * corpus_turns.inc.c. The new function sleeps a second, uninterruptibly.
 */

#include <linux/jiffies.h>
#include <linux/sched.h>

#include "corpus.h"

static __corpus_noipa void corpus_new_turn(unsigned int *turns)
{
	schedule_timeout_idle(HZ);
	(*turns)++;
}

static struct klp_func corpus_funcs[] = {
	{ .old_name = "corpus_turn", .new_func = corpus_new_turn },
	{ }
};

#include "corpus_patch.inc.c"
