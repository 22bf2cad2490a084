// SPDX-License-Identifier: GPL-2.0-only
/*
 * good_parameter - good: a parameter decides what the new function does; its
 * default is correct.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include "corpus.h"

static int most = 50;
module_param(most, int, 0644);
MODULE_PARM_DESC(most, "The limit (default 50)");

static __corpus_noipa int corpus_new_limit(int number)
{
	return min(number, READ_ONCE(most));
}

static struct klp_func corpus_funcs[] = {
	{ .old_name = "corpus_limit", .new_func = corpus_new_limit },
	{ }
};

#define CORPUS_OBJECT	"corpus_target"
#include "corpus_patch.inc.c"

MODULE_DESCRIPTION("Livepatch corpus: a module parameter");
