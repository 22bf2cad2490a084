// SPDX-License-Identifier: GPL-2.0-only
/*
 * good_open_file - good: a procfs file of its own, which is gone before the module
 * is: who has it open gets an error then.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/proc_fs.h>
#include <linux/seq_file.h>

#include "corpus.h"
#include "corpus_cmdline.inc.c"

static int corpus_show(struct seq_file *m, void *v)
{
	seq_puts(m, "patched\n");
	return 0;
}

static int corpus_pre_patch(struct klp_object *obj)
{
	return proc_create_single("corpus_own", 0444, NULL, corpus_show) ? 0 : -ENOMEM;
}

static void corpus_post_unpatch(struct klp_object *obj)
{
	remove_proc_entry("corpus_own", NULL);
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

MODULE_DESCRIPTION("Livepatch corpus: a procfs file of its own");
