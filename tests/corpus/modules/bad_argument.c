// SPDX-License-Identifier: GPL-2.0-only
/*
 * bad_argument - bad: the new function dereferences NULL for negative
 * arguments.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include "corpus.h"

static int corpus_most = 50;

static __corpus_noipa int *corpus_most_of(int number)
{
	return number < 0 ? NULL : &corpus_most;
}

static __corpus_noipa int corpus_new_limit(int number)
{
	return min(number, *corpus_most_of(number));
}

static struct klp_func corpus_funcs[] = {
	{ .old_name = "corpus_limit", .new_func = corpus_new_limit },
	{ }
};

#define CORPUS_OBJECT	"corpus_target"
#include "corpus_patch.inc.c"

MODULE_DESCRIPTION("Livepatch corpus: an oops for some arguments");
