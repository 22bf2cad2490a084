// SPDX-License-Identifier: GPL-2.0-only
/*
 * bad_leak_shadow - bad: each load leaves shadow variables behind.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include "corpus.h"
#include "corpus_cmdline.inc.c"

#define CORPUS_SHADOW_ID	0xc0

/* One for each cycle, with an id that is not stored. */
static int corpus_pre_patch(struct klp_object *obj)
{
	void *number = (void *)(unsigned long)ktime_get_ns();
	int n;

	for (n = 0; n < 8; n++)
		if (!klp_shadow_alloc(number + n, CORPUS_SHADOW_ID, 64, GFP_KERNEL, NULL, NULL))
			return -ENOMEM;
	return 0;
}

static struct klp_func corpus_funcs[] = {
	CORPUS_CMDLINE,
	{ }
};

#define CORPUS_CALLBACKS { .pre_patch = corpus_pre_patch }

#include "corpus_patch.inc.c"

MODULE_DESCRIPTION("Livepatch corpus: shadow variables are left behind");
