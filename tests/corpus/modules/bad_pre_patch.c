// SPDX-License-Identifier: GPL-2.0-only
/*
 * bad_pre_patch - bad: pre_patch always returns an error.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include "corpus.h"
#include "corpus_cmdline.inc.c"

static int corpus_pre_patch(struct klp_object *obj)
{
	return -ENODEV;
}

static struct klp_func corpus_funcs[] = {
	CORPUS_CMDLINE,
	{ }
};

#define CORPUS_CALLBACKS	{ .pre_patch = corpus_pre_patch }

#include "corpus_patch.inc.c"

MODULE_DESCRIPTION("Livepatch corpus: pre_patch fails");
