// SPDX-License-Identifier: GPL-2.0-only
/*
 * bad_leak_call - bad: each call of the new function loses 2 KB.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/seq_file.h>

#include "corpus.h"

static __corpus_noipa int corpus_cmdline(struct seq_file *m, void *v)
{
	char *copy = kmalloc(2048, GFP_KERNEL);

	if (!copy)
		return -ENOMEM;
	strscpy(copy, "corpus\n", 2048);
	seq_puts(m, copy);
	return 0;
}

static struct klp_func corpus_funcs[] = {
	{ .old_name = "cmdline_proc_show", .new_func = corpus_cmdline },
	{ }
};

#include "corpus_patch.inc.c"

MODULE_DESCRIPTION("Livepatch corpus: memory leaks in each call");
