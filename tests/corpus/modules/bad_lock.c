// SPDX-License-Identifier: GPL-2.0-only
/*
 * bad_lock - bad: post_patch takes the lock of the network's configuration, and
 * nobody gives it back.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/rtnetlink.h>

#include "corpus.h"
#include "corpus_cmdline.h"

static void corpus_post_patch(struct klp_object *obj)
{
	rtnl_lock();
}

static struct klp_func corpus_funcs[] = {
	CORPUS_CMDLINE,
	{ }
};

#define CORPUS_CALLBACKS	{ .post_patch = corpus_post_patch }

#include "corpus_patch.h"

MODULE_DESCRIPTION("Livepatch corpus: a lock is held over the unload");
