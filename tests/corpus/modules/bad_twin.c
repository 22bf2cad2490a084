// SPDX-License-Identifier: GPL-2.0-only
/*
 * bad_twin - bad: it patches the first of two functions of the same name instead
 * of the second.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include "corpus.h"

static __corpus_noipa const char *corpus_new_twin(void)
{
	return "patched";
}

static struct klp_func corpus_funcs[] = {
	{ .old_name = "klp_twin", .new_func = corpus_new_twin, .old_sympos = 1 },
	{ }
};

#define CORPUS_OBJECT	"klp_target_twins"
#include "corpus_patch.inc.c"

MODULE_DESCRIPTION("Livepatch corpus: the wrong one of two functions");
