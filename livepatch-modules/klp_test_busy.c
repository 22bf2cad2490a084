// SPDX-License-Identifier: GPL-2.0-only
/*
 * klp_test_busy - patches klp_target_busy() of klp_target_mod, with callbacks.
 *
 * With klp_target_mod loaded with busy=1, a kthread sleeps in that function and
 * blocks the transition, between the pre- and the post-callbacks of vmlinux and
 * klp_target_mod, until /sys/kernel/klp_target/release is written. The new function
 * returns at once: when the patch was loaded before the target, nothing blocks.
 * Logs its callbacks, see klp_callbacks.h. No function of vmlinux is patched.
 *
 * Parameter: replace (bool), the patch replaces all others.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/kernel.h>
#include <linux/livepatch.h>
#include <linux/module.h>

#include "klp_callbacks.h"
#include "klp_compat.h"

static bool replace;
module_param(replace, bool, 0444);
MODULE_PARM_DESC(replace, "Replace all other patches (default off)");

static __klp_noipa const char *klp_test_busy_busy(void)
{
	return klp_opaque("busy " KBUILD_MODNAME);
}

static struct klp_func klp_vmlinux_funcs[] = {
	{ }
};

static struct klp_func klp_target_funcs[] = {
	{
		.old_name = "klp_target_busy",
		.new_func = klp_test_busy_busy,
	},
	{ }
};

static struct klp_object klp_busy_objs[] = {
	{
		.funcs = klp_vmlinux_funcs,
		.callbacks = KLP_LOG_CALLBACKS(klp_log_pre_patch),
	},
	{
		.name = "klp_target_mod",
		.funcs = klp_target_funcs,
		.callbacks = KLP_LOG_CALLBACKS(klp_log_pre_patch),
	},
	{ }
};

static struct klp_patch klp_busy_patch = {
	.mod = THIS_MODULE,
	.objs = klp_busy_objs,
};

static int __init klp_test_busy_init(void)
{
	klp_busy_patch.replace = replace;
	return klp_enable_patch(&klp_busy_patch);
}

static void __exit klp_test_busy_exit(void)
{
}

module_init(klp_test_busy_init);
module_exit(klp_test_busy_exit);
MODULE_DESCRIPTION("Livepatch test: a busy function of klp_target_mod, with callbacks");
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");
