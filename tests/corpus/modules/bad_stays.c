// SPDX-License-Identifier: GPL-2.0-only
/*
 * bad_stays - bad: it has no exit, so its module cannot be removed.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include "corpus.h"
#include "corpus_cmdline.h"

static struct klp_func corpus_funcs[] = {
	CORPUS_CMDLINE,
	{ }
};

#define CORPUS_STAYS
#include "corpus_patch.h"

MODULE_DESCRIPTION("Livepatch corpus: a module that stays");
