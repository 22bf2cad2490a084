// SPDX-License-Identifier: GPL-2.0-only
/*
 * good_twin - good: it patches the second of two functions of the same name.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include "corpus.h"

static __corpus_noipa const char *corpus_new_twin(void)
{
	return "patched";
}

static struct klp_func corpus_funcs[] = {
	{ .old_name = "klp_twin", .new_func = corpus_new_twin, .old_sympos = 2 },
	{ }
};

#define CORPUS_OBJECT	"klp_target_twins"
#include "corpus_patch.inc.c"

MODULE_DESCRIPTION("Livepatch corpus: the right one of two functions");
