// SPDX-License-Identifier: GPL-2.0-only
/*
 * old_cmdline - what good_replace replaces: it patches the same function.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include "corpus.h"
#include "corpus_cmdline.inc.c"

static struct klp_func corpus_funcs[] = {
	CORPUS_CMDLINE,
	{ }
};

#include "corpus_patch.inc.c"

MODULE_DESCRIPTION("Livepatch corpus: an older patch");
