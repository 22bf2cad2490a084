// SPDX-License-Identifier: GPL-2.0-only
/*
 * bad_reload - bad: pre_patch registers device numbers that are never freed.
 * The second load fails.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/fs.h>

#include "corpus.h"
#include "corpus_cmdline.inc.c"

#define CORPUS_MAJOR	240

static int corpus_pre_patch(struct klp_object *obj)
{
	return register_chrdev_region(MKDEV(CORPUS_MAJOR, 0), 1, "corpus");
}

static struct klp_func corpus_funcs[] = {
	CORPUS_CMDLINE,
	{ }
};

#define CORPUS_CALLBACKS	{ .pre_patch = corpus_pre_patch }

#include "corpus_patch.inc.c"

MODULE_DESCRIPTION("Livepatch corpus: a callback that fails on reload");
