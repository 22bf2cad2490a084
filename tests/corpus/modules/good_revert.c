// SPDX-License-Identifier: GPL-2.0-only
/*
 * good_revert - good: panic_timeout is set, and restored.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/kernel.h>

#include "corpus.h"
#include "corpus_cmdline.inc.c"

static int corpus_before;

static void corpus_post_patch(struct klp_object *obj)
{
	corpus_before = panic_timeout;
	panic_timeout = 99;
}

static void corpus_pre_unpatch(struct klp_object *obj)
{
	panic_timeout = corpus_before;
}

static struct klp_func corpus_funcs[] = {
	CORPUS_CMDLINE,
	{ }
};

#define CORPUS_CALLBACKS { \
	.post_patch = corpus_post_patch, \
	.pre_unpatch = corpus_pre_unpatch, \
}

#include "corpus_patch.inc.c"

MODULE_DESCRIPTION("Livepatch corpus: a variable is restored");
