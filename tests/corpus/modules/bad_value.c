// SPDX-License-Identifier: GPL-2.0-only
/*
 * bad_value - bad: the new function is off by one for one argument, 50.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include "corpus.h"

static __corpus_noipa int corpus_new_limit(int number)
{
	return number >= 50 ? 49 + (number > 50) : number;
}

static struct klp_func corpus_funcs[] = {
	{ .old_name = "corpus_limit", .new_func = corpus_new_limit },
	{ }
};

#define CORPUS_OBJECT	"corpus_target"
#include "corpus_patch.inc.c"

MODULE_DESCRIPTION("Livepatch corpus: a wrong value for one argument");
