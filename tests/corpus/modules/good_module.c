// SPDX-License-Identifier: GPL-2.0-only
/*
 * good_module - good: one function of a module, correct for every argument.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include "corpus.h"

static __corpus_noipa int corpus_new_limit(int number)
{
	return min(number, 50);
}

static struct klp_func corpus_funcs[] = {
	{ .old_name = "corpus_limit", .new_func = corpus_new_limit },
	{ }
};

#define CORPUS_OBJECT	"corpus_target"
#include "corpus_patch.inc.c"

MODULE_DESCRIPTION("Livepatch corpus: one function of a module");
