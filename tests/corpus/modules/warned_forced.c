// SPDX-License-Identifier: GPL-2.0-only
/*
 * warned_forced - works, and replaces two patches of one function, of which the
 * upper one may have been forced.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include "corpus.h"
#include "corpus_cmdline.inc.c"

static struct klp_func corpus_funcs[] = {
	CORPUS_CMDLINE,
	{ }
};

#define CORPUS_REPLACE	true
#include "corpus_patch.inc.c"

MODULE_DESCRIPTION("Livepatch corpus: an atomic replace of two patches");
