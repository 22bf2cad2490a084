// SPDX-License-Identifier: GPL-2.0-only
/*
 * good_shadow - good: shadow variables of a target's data, freed with the patch.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include "corpus.h"

#define CORPUS_SHADOW_ID	0xc1

static __corpus_noipa const char *corpus_new_text(int *number)
{
	int *calls = klp_shadow_get_or_alloc(number, CORPUS_SHADOW_ID, sizeof(*calls), GFP_KERNEL,
					     NULL, NULL);

	if (!calls)
		return "original";
	(*calls)++;
	return "patched";
}

static void corpus_post_unpatch(struct klp_object *obj)
{
	klp_shadow_free_all(CORPUS_SHADOW_ID, NULL);
}

static struct klp_func corpus_funcs[] = {
	{ .old_name = "corpus_text", .new_func = corpus_new_text },
	{ }
};

#define CORPUS_OBJECT		"corpus_target"
#define CORPUS_CALLBACKS	{ .post_unpatch = corpus_post_unpatch }

#include "corpus_patch.inc.c"

MODULE_DESCRIPTION("Livepatch corpus: shadow variables");
