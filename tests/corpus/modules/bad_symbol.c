// SPDX-License-Identifier: GPL-2.0-only
/*
 * bad_symbol - bad: it patches a function that no kernel has.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include "corpus.h"
#include "corpus_cmdline.inc.c"

static struct klp_func corpus_funcs[] = {
	CORPUS_CMDLINE,
	{ .old_name = "cmdline_proc_shown", .new_func = corpus_cmdline },
	{ }
};

#include "corpus_patch.inc.c"

MODULE_DESCRIPTION("Livepatch corpus: a function that does not exist");
