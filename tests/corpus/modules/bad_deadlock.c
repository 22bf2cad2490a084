// SPDX-License-Identifier: GPL-2.0-only
/*
 * bad_deadlock - bad: post_patch waits for a completion that never happens.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/completion.h>

#include "corpus.h"
#include "corpus_cmdline.inc.c"

static DECLARE_COMPLETION(corpus_never);

static void corpus_post_patch(struct klp_object *obj)
{
	wait_for_completion(&corpus_never);
}

static struct klp_func corpus_funcs[] = {
	CORPUS_CMDLINE,
	{ }
};

#define CORPUS_CALLBACKS	{ .post_patch = corpus_post_patch }

#include "corpus_patch.inc.c"

MODULE_DESCRIPTION("Livepatch corpus: a deadlock in post_patch");
