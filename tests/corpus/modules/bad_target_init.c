// SPDX-License-Identifier: GPL-2.0-only
/*
 * bad_target_init - bad: with it, its target's init finds no device any more.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include "corpus.h"

static __corpus_noipa int corpus_new_probe(int unit)
{
	return unit <= 0 ? -ENODEV : 0;
}

static struct klp_func corpus_funcs[] = {
	{ .old_name = "corpus_probe", .new_func = corpus_new_probe },
	{ }
};

#define CORPUS_OBJECT	"corpus_probed"
#include "corpus_patch.inc.c"

MODULE_DESCRIPTION("Livepatch corpus: its target cannot be loaded any more");
