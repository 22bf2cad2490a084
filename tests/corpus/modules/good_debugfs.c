// SPDX-License-Identifier: GPL-2.0-only
/*
 * good_debugfs - good: a debugfs file of its own, which holds the module while it is open.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/debugfs.h>
#include <linux/fs.h>

#include "corpus.h"
#include "corpus_cmdline.inc.c"

static ssize_t corpus_read(struct file *file, char __user *to, size_t count, loff_t *pos)
{
	return simple_read_from_buffer(to, count, pos, "patched\n", 8);
}

static const struct file_operations corpus_fops = {
	.owner	= THIS_MODULE,
	.read	= corpus_read,
	.llseek	= default_llseek,
};

static struct dentry *corpus_file;

static int corpus_pre_patch(struct klp_object *obj)
{
	corpus_file = debugfs_create_file("corpus_own", 0444, NULL, NULL, &corpus_fops);
	return 0;
}

static void corpus_post_unpatch(struct klp_object *obj)
{
	debugfs_remove(corpus_file);
}

static struct klp_func corpus_funcs[] = {
	CORPUS_CMDLINE,
	{ }
};

#define CORPUS_CALLBACKS { \
	.pre_patch = corpus_pre_patch, \
	.post_unpatch = corpus_post_unpatch, \
}

#include "corpus_patch.inc.c"

MODULE_DESCRIPTION("Livepatch corpus: a debugfs file of its own");
