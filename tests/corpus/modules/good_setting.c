// SPDX-License-Identifier: GPL-2.0-only
/*
 * good_setting - good: post_unpatch restores the sysctl that pre_patch sets.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/kernel.h>
#include "corpus.h"
#include "corpus_cmdline.inc.c"

static int corpus_timeout;

static int corpus_pre_patch(struct klp_object *obj)
{
	corpus_timeout = panic_timeout;
	panic_timeout = 30;
	return 0;
}

static void corpus_post_unpatch(struct klp_object *obj)
{
	panic_timeout = corpus_timeout;
}

static struct klp_func corpus_funcs[] = {
	CORPUS_CMDLINE,
	{ }
};

#define CORPUS_CALLBACKS { \
	.pre_patch = corpus_pre_patch, \
	.post_unpatch = corpus_post_unpatch, \
}

#include "corpus_patch.inc.c"

MODULE_DESCRIPTION("Livepatch corpus: a setting is restored");
