// SPDX-License-Identifier: GPL-2.0-only
/*
 * good_replace - good: an atomic replace of old_cmdline that patches one more
 * function.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include "corpus.h"
#include "corpus_cmdline.inc.c"

static __corpus_noipa int corpus_version(struct seq_file *m, void *v)
{
	seq_puts(m, "corpus\n");
	return 0;
}

static struct klp_func corpus_funcs[] = {
	CORPUS_CMDLINE,
	{ .old_name = "version_proc_show", .new_func = corpus_version },
	{ }
};

#define CORPUS_REPLACE	true
#include "corpus_patch.inc.c"

MODULE_DESCRIPTION("Livepatch corpus: atomic replace");
