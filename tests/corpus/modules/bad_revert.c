// SPDX-License-Identifier: GPL-2.0-only
/*
 * bad_revert - bad: panic_timeout, which post_patch sets, is not set back.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/panic.h>

#include "corpus.h"
#include "corpus_cmdline.h"

static void corpus_post_patch(struct klp_object *obj)
{
	panic_timeout = 99;
}

static struct klp_func corpus_funcs[] = {
	CORPUS_CMDLINE,
	{ }
};

#define CORPUS_CALLBACKS	{ .post_patch = corpus_post_patch }

#include "corpus_patch.h"

MODULE_DESCRIPTION("Livepatch corpus: something stays changed");
