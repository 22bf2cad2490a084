// SPDX-License-Identifier: GPL-2.0-only
/*
 * bad_target_late - bad: it works when the target is already loaded; loading the
 * target afterwards is refused.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include "corpus.h"

static __corpus_noipa const char *corpus_new_text(int *number)
{
	return "patched";
}

static int corpus_pre_patch(struct klp_object *obj)
{
	return obj->mod->state == MODULE_STATE_LIVE ? 0 : -EBUSY;
}

static struct klp_func corpus_funcs[] = {
	{ .old_name = "corpus_text", .new_func = corpus_new_text },
	{ }
};

#define CORPUS_OBJECT		"corpus_target"
#define CORPUS_CALLBACKS	{ .pre_patch = corpus_pre_patch }

#include "corpus_patch.inc.c"

MODULE_DESCRIPTION("Livepatch corpus: a target loaded after it is refused");
