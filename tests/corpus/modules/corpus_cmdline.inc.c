// SPDX-License-Identifier: GPL-2.0-only
/*
 * corpus_cmdline() - replaces cmdline_proc_show(): /proc/cmdline shows "corpus",
 * and nothing else.
 */

#include <linux/seq_file.h>

static __corpus_noipa int corpus_cmdline(struct seq_file *m, void *v)
{
	seq_puts(m, "corpus\n");
	return 0;
}

#define CORPUS_CMDLINE { .old_name = "cmdline_proc_show", .new_func = corpus_cmdline }
