// SPDX-License-Identifier: GPL-2.0-only
/*
 * bad_open_file - bad: a file that is opened with it shows what a function of the
 * module writes, and does not hold the module.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/fs.h>
#include <linux/seq_file.h>

#include "corpus.h"

static int corpus_new_show(struct seq_file *m, void *v)
{
	seq_puts(m, "patched\n");
	return 0;
}

static __corpus_noipa int corpus_new_open(struct inode *inode, struct file *file)
{
	return single_open(file, corpus_new_show, NULL);
}

static struct klp_func corpus_funcs[] = {
	{ .old_name = "corpus_open_file", .new_func = corpus_new_open },
	{ }
};

#define CORPUS_OBJECT	"corpus_open"
#include "corpus_patch.inc.c"

MODULE_DESCRIPTION("Livepatch corpus: an open file leads into a module that is gone");
