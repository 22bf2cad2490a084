// SPDX-License-Identifier: GPL-2.0-only
/*
 * good_kprobe - good: beside what it patches, a kprobe on another function.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/kprobes.h>

#include "corpus.h"
#include "corpus_cmdline.inc.c"

static unsigned long corpus_hits;

static int corpus_hit(struct kprobe *probe, struct pt_regs *regs)
{
	corpus_hits++;
	return 0;
}

static struct kprobe corpus_probe = {
	.symbol_name = "uptime_proc_show",
	.pre_handler = corpus_hit,
};

static int corpus_pre_patch(struct klp_object *obj)
{
	return register_kprobe(&corpus_probe);
}

static void corpus_post_unpatch(struct klp_object *obj)
{
	unregister_kprobe(&corpus_probe);
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

MODULE_DESCRIPTION("Livepatch corpus: a kprobe elsewhere");
