// SPDX-License-Identifier: GPL-2.0-only
/*
 * warned_cold - works, and a task that sleeps in its unlikely branch is not seen
 * when it is disabled: the compiler splits that branch off.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/delay.h>
#include <linux/seq_file.h>

#include "corpus.h"

static __cold __corpus_noipa void corpus_wait(void)
{
	msleep(20);
	barrier();
}

static __corpus_noipa int corpus_cmdline(struct seq_file *m, void *v)
{
	if (!v) {
		corpus_wait();
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

MODULE_DESCRIPTION("Livepatch corpus: a part that is split off, and sleeps");
