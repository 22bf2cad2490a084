// SPDX-License-Identifier: GPL-2.0-only
/*
 * unknown_nodev - unknown: nothing of it can be seen, as it patches a driver that no
 * guest can load.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include "corpus.h"

static __corpus_noipa int corpus_new_probe(int unit)
{
	return unit < 0 ? -ERANGE : -ENODEV;
}

static struct klp_func corpus_funcs[] = {
	{ .old_name = "corpus_probe", .new_func = corpus_new_probe },
	{ }
};

#define CORPUS_OBJECT	"corpus_nodev"
#include "corpus_patch.inc.c"

MODULE_DESCRIPTION("Livepatch corpus: patches a driver without its device");
