// SPDX-License-Identifier: GPL-2.0-only
/*
 * good_cold - good: what the compiler splits off its function prints, and does
 * not sleep.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/seq_file.h>

#include "corpus.h"

static __cold __corpus_noipa void corpus_complain(void)
{
	pr_info("no iterator\n");
	barrier();
}

static __corpus_noipa int corpus_cmdline(struct seq_file *m, void *v)
{
	if (!v) {
		corpus_complain();
		return -EAGAIN;
	}
	seq_puts(m, "corpus\n");
	return 0;
}

static struct klp_func corpus_funcs[] = {
	{ .old_name = "cmdline_proc_show", .new_func = corpus_cmdline },
	{ }
};

#include "corpus_patch.inc.c"

MODULE_DESCRIPTION("Livepatch corpus: a part that is split off, and prints");
