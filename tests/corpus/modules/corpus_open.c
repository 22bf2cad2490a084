// SPDX-License-Identifier: GPL-2.0-only
/*
 * corpus_open - /proc/corpus_open, whose open can be patched.
 */

#include <linux/fs.h>
#include <linux/module.h>
#include <linux/proc_fs.h>
#include <linux/seq_file.h>

#include "corpus.h"

static int corpus_show(struct seq_file *m, void *v)
{
	seq_puts(m, "original\n");
	return 0;
}

static __corpus_noipa int corpus_open_file(struct inode *inode, struct file *file)
{
	return single_open(file, corpus_show, NULL);
}

static const struct proc_ops corpus_ops = {
	.proc_open	= corpus_open_file,
	.proc_read	= seq_read,
	.proc_lseek	= seq_lseek,
	.proc_release	= single_release,
};

static int __init corpus_open_init(void)
{
	return proc_create("corpus_open", 0444, NULL, &corpus_ops) ? 0 : -ENOMEM;
}
module_init(corpus_open_init);

static void __exit corpus_open_exit(void)
{
	remove_proc_entry("corpus_open", NULL);
}
module_exit(corpus_open_exit);

MODULE_DESCRIPTION("Livepatch corpus: a file whose open is patched");
MODULE_LICENSE("GPL");
