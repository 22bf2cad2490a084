// SPDX-License-Identifier: GPL-2.0-only
/*
 * good_says_bug - good: it only logs the word BUG.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include "corpus.h"
#include "corpus_cmdline.inc.c"

static int corpus_pre_patch(struct klp_object *obj)
{
	pr_info("fixes the BUG that was reported as a WARNING with a Call Trace\n");
	return 0;
}

static struct klp_func corpus_funcs[] = {
	CORPUS_CMDLINE,
	{ }
};

#define CORPUS_CALLBACKS	{ .pre_patch = corpus_pre_patch }

#include "corpus_patch.inc.c"

MODULE_DESCRIPTION("Livepatch corpus: a message with the word BUG");
