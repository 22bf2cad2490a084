// SPDX-License-Identifier: GPL-2.0-only
/*
 * bad_stays - bad: it has no exit, so its module cannot be unloaded.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include "corpus.h"
#include "corpus_cmdline.inc.c"

static struct klp_func corpus_funcs[] = {
	CORPUS_CMDLINE,
	{ }
};

#define CORPUS_STAYS
#include "corpus_patch.inc.c"

MODULE_DESCRIPTION("Livepatch corpus: a module without an exit");
