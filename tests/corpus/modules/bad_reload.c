// SPDX-License-Identifier: GPL-2.0-only
/*
 * bad_reload - bad: pre_patch takes device numbers that nobody gives back. The
 * second load is refused.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/fs.h>

#include "corpus.h"
#include "corpus_cmdline.h"

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

#include "corpus_patch.h"

MODULE_DESCRIPTION("Livepatch corpus: a callback that fails on reload");
