// SPDX-License-Identifier: GPL-2.0-only
/*
 * klp_test_kprobe - a kprobe at the entry of a function. No livepatch.
 *
 * A kprobe with a post_handler registers its ftrace_ops with
 * FTRACE_OPS_FL_IPMODIFY, as a livepatch does: a function can have only one such.
 *
 * Parameters:
 *	symbol			the function
 *	post			with a post_handler (default off)
 *	comm			count only what tasks of that name do (default: all)
 *	hits, post_hits		how often each handler ran
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/kernel.h>
#include <linux/kprobes.h>
#include <linux/module.h>
#include <linux/sched.h>
#include <linux/string.h>

static char *symbol = "";
module_param(symbol, charp, 0444);
MODULE_PARM_DESC(symbol, "Function to be probed");

static bool post;
module_param(post, bool, 0444);
MODULE_PARM_DESC(post, "Have a post_handler (default off)");

static char *comm = "";
module_param(comm, charp, 0444);
MODULE_PARM_DESC(comm, "Count only what tasks of that name do (default: all)");

static unsigned int hits;
module_param(hits, uint, 0444);
MODULE_PARM_DESC(hits, "How often the pre_handler ran");

static unsigned int post_hits;
module_param(post_hits, uint, 0444);
MODULE_PARM_DESC(post_hits, "How often the post_handler ran");

static bool klp_kprobe_counts(void)
{
	return !*comm || !strcmp(current->comm, comm);
}

static int klp_kprobe_pre(struct kprobe *p, struct pt_regs *regs)
{
	if (klp_kprobe_counts())
		hits++;
	return 0;
}

static void klp_kprobe_post(struct kprobe *p, struct pt_regs *regs, unsigned long flags)
{
	if (klp_kprobe_counts())
		post_hits++;
}

static struct kprobe klp_kprobe = {
	.pre_handler = klp_kprobe_pre,
};

static int __init klp_test_kprobe_init(void)
{
	klp_kprobe.symbol_name = symbol;
	if (post)
		klp_kprobe.post_handler = klp_kprobe_post;
	return register_kprobe(&klp_kprobe);
}

static void __exit klp_test_kprobe_exit(void)
{
	unregister_kprobe(&klp_kprobe);
}

module_init(klp_test_kprobe_init);
module_exit(klp_test_kprobe_exit);
MODULE_DESCRIPTION("Livepatch test: a kprobe beside a livepatch");
MODULE_LICENSE("GPL");
