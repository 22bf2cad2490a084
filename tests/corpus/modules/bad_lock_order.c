// SPDX-License-Identifier: GPL-2.0-only
/*
 * bad_lock_order - bad: post_patch takes two locks in one order, pre_unpatch in the
 * other. Only a kernel with PROVE_LOCKING reports it.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/mutex.h>

#include "corpus.h"
#include "corpus_cmdline.inc.c"

static DEFINE_MUTEX(corpus_first);
static DEFINE_MUTEX(corpus_second);

static void corpus_post_patch(struct klp_object *obj)
{
	mutex_lock(&corpus_first);
	mutex_lock(&corpus_second);
	mutex_unlock(&corpus_second);
	mutex_unlock(&corpus_first);
}

static void corpus_pre_unpatch(struct klp_object *obj)
{
	mutex_lock(&corpus_second);
	mutex_lock(&corpus_first);
	mutex_unlock(&corpus_first);
	mutex_unlock(&corpus_second);
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

MODULE_DESCRIPTION("Livepatch corpus: locks in two orders");
