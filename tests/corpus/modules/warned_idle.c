// SPDX-License-Identifier: GPL-2.0-only
/*
 * warned_idle - works as long as nobody injects idle time: a thread that does is
 * switched while it is in the function.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include "corpus.h"

static __corpus_noipa void corpus_play_idle(u64 duration_ns, u64 latency_ns)
{
}

static struct klp_func corpus_funcs[] = {
	{ .old_name = "play_idle_precise", .new_func = corpus_play_idle },
	{ }
};

#include "corpus_patch.inc.c"

MODULE_DESCRIPTION("Livepatch corpus: a function in which tasks are switched");
