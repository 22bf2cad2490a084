// SPDX-License-Identifier: GPL-2.0-only
/*
 * bad_deadlock_disable - bad: pre_unpatch locks a mutex that post_patch has not
 * unlocked, and the write that disables the patch never returns.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/mutex.h>

#include "corpus.h"
#include "corpus_cmdline.inc.c"

static DEFINE_MUTEX(corpus_mutex);

static void corpus_post_patch(struct klp_object *obj)
{
	mutex_lock(&corpus_mutex);
}

static void corpus_pre_unpatch(struct klp_object *obj)
{
	mutex_lock(&corpus_mutex);
	mutex_unlock(&corpus_mutex);
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

MODULE_DESCRIPTION("Livepatch corpus: a deadlock in pre_unpatch");
