// SPDX-License-Identifier: GPL-2.0-only
/*
 * bad_revert - bad: panic_timeout, which post_patch sets, is not restored.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/kernel.h>

#include "corpus.h"
#include "corpus_cmdline.inc.c"

static void corpus_post_patch(struct klp_object *obj)
{
	panic_timeout = 99;
}

static struct klp_func corpus_funcs[] = {
	CORPUS_CMDLINE,
	{ }
};

#define CORPUS_CALLBACKS	{ .post_patch = corpus_post_patch }

#include "corpus_patch.inc.c"

MODULE_DESCRIPTION("Livepatch corpus: a variable is not restored");
