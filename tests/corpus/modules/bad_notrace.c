// SPDX-License-Identifier: GPL-2.0-only
/*
 * bad_notrace - bad: it patches a function that ftrace cannot hook.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include "corpus.h"

static __corpus_noipa const char *corpus_new_untraced(void)
{
	return "patched";
}

static struct klp_func corpus_funcs[] = {
	{ .old_name = "klp_untraced", .new_func = corpus_new_untraced },
	{ }
};

#define CORPUS_OBJECT	"klp_target_notrace"
#include "corpus_patch.inc.c"

MODULE_DESCRIPTION("Livepatch corpus: a function that is notrace");
