// SPDX-License-Identifier: GPL-2.0-only
/*
 * good_vmlinux - good: one function of vmlinux.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include "corpus.h"
#include "corpus_cmdline.inc.c"

static struct klp_func corpus_funcs[] = {
	CORPUS_CMDLINE,
	{ }
};

#include "corpus_patch.inc.c"

MODULE_DESCRIPTION("Livepatch corpus: one function of vmlinux");
