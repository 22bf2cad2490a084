// SPDX-License-Identifier: GPL-2.0-only
/*
 * good_pair - good: both halves of a pair are patched.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include "corpus.h"

static __corpus_noipa int corpus_new_code(int number)
{
	return number ^ 0xa5;
}

static struct klp_func corpus_funcs[] = {
	{ .old_name = "corpus_encode", .new_func = corpus_new_code },
	{ .old_name = "corpus_decode", .new_func = corpus_new_code },
	{ }
};

#define CORPUS_OBJECT	"corpus_target"
#include "corpus_patch.inc.c"

MODULE_DESCRIPTION("Livepatch corpus: both halves of a pair");
