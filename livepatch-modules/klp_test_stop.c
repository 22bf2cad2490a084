// SPDX-License-Identifier: GPL-2.0-only
/*
 * klp_test_stop - patches do_signal_stop(), in which stopped tasks sleep.
 *
 * The new function says that the task did not stop, as the old one does after a
 * race with SIGCONT: a task that is switched ignores the signals that stop it.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/kernel.h>
#include <linux/livepatch.h>
#include <linux/module.h>

#include "klp_compat.h"

/* The caller holds sighand->siglock, and still does after false. */
static __klp_noipa bool klp_test_stop_do_signal_stop(int signr)
{
	return false;
}

static struct klp_func klp_stop_funcs[] = {
	{
		.old_name = "do_signal_stop",
		.new_func = klp_test_stop_do_signal_stop,
	},
	{ }
};

static struct klp_object klp_stop_objs[] = {
	{
		.funcs = klp_stop_funcs,
	},
	{ }
};

static struct klp_patch klp_stop_patch = {
	.mod = THIS_MODULE,
	.objs = klp_stop_objs,
};

static int __init klp_test_stop_init(void)
{
	return klp_enable_patch(&klp_stop_patch);
}

static void __exit klp_test_stop_exit(void)
{
}

module_init(klp_test_stop_init);
module_exit(klp_test_stop_exit);
MODULE_DESCRIPTION("Livepatch test: the function in which stopped tasks sleep");
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");
