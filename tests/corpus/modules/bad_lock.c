// SPDX-License-Identifier: GPL-2.0-only
/*
 * bad_lock - bad: post_patch takes rtnl_lock() and never releases it.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/rtnetlink.h>

#include "corpus.h"
#include "corpus_cmdline.inc.c"

static void corpus_post_patch(struct klp_object *obj)
{
	rtnl_lock();
}

static struct klp_func corpus_funcs[] = {
	CORPUS_CMDLINE,
	{ }
};

#define CORPUS_CALLBACKS	{ .post_patch = corpus_post_patch }

#include "corpus_patch.inc.c"

MODULE_DESCRIPTION("Livepatch corpus: a lock is still held after the unload");
