// SPDX-License-Identifier: GPL-2.0-only
/*
 * klp_test_idle - patches klp_idle_outer() and klp_idle_inner() of klp_target_idle.
 *
 * The new functions do what the old ones do, and report "patched". They use
 * symbols of klp_target_idle, which has to be loaded first.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/kernel.h>
#include <linux/livepatch.h>
#include <linux/module.h>

#include "klp_compat.h"
#include "klp_idle.h"

static __klp_noipa void klp_test_idle_inner(struct klp_idle_call *call)
{
	call->inner = "patched";
}

/* Calls klp_idle_inner() by its name: ftrace decides which version runs. */
static __klp_noipa void klp_test_idle_outer(struct klp_idle_call *call)
{
	call->outer = "patched";
	klp_idle_inject();
	klp_idle_inner(call);
	barrier();
}

static struct klp_func klp_idle_funcs[] = {
	{
		.old_name = "klp_idle_outer",
		.new_func = klp_test_idle_outer,
	},
	{
		.old_name = "klp_idle_inner",
		.new_func = klp_test_idle_inner,
	},
	{ }
};

static struct klp_object klp_idle_objs[] = {
	{
		.name = "klp_target_idle",
		.funcs = klp_idle_funcs,
	},
	{ }
};

static struct klp_patch klp_idle_patch = {
	.mod = THIS_MODULE,
	.objs = klp_idle_objs,
};

static int __init klp_test_idle_init(void)
{
	return klp_enable_patch(&klp_idle_patch);
}

static void __exit klp_test_idle_exit(void)
{
}

module_init(klp_test_idle_init);
module_exit(klp_test_idle_exit);
MODULE_DESCRIPTION("Livepatch test: functions of klp_target_idle, one injects idle time");
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");
