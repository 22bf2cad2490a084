// SPDX-License-Identifier: GPL-2.0-only
/*
 * bad_half_pair - bad: only one function of a pair is patched; the other cannot
 * decode what it encodes.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include "corpus.h"

static __corpus_noipa int corpus_new_encode(int number)
{
	return number ^ 0xa5;
}

static struct klp_func corpus_funcs[] = {
	{ .old_name = "corpus_encode", .new_func = corpus_new_encode },
	{ }
};

#define CORPUS_OBJECT	"corpus_target"
#include "corpus_patch.inc.c"

MODULE_DESCRIPTION("Livepatch corpus: half of a pair");
