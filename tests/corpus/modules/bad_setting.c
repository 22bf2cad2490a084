// SPDX-License-Identifier: GPL-2.0-only
/*
 * bad_setting - bad: a setting stays as the patch has it.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/panic.h>
#include "corpus.h"
#include "corpus_cmdline.h"

static int corpus_pre_patch(struct klp_object *obj)
{
	panic_timeout = 30;
	return 0;
}

static struct klp_func corpus_funcs[] = {
	CORPUS_CMDLINE,
	{ }
};

#define CORPUS_CALLBACKS { .pre_patch = corpus_pre_patch }

#include "corpus_patch.h"

MODULE_DESCRIPTION("Livepatch corpus: a setting stays");
