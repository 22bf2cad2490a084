// SPDX-License-Identifier: GPL-2.0-only
/*
 * klp_test_cold - patches klp_cold_outer() and klp_cold_inner() of klp_target_cold.
 *
 * The new functions do what the old ones do, and report "patched". A branch of the
 * new outer function is in klp_test_cold_outer.cold. They use symbols of
 * klp_target_cold, which has to be loaded first.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/kernel.h>
#include <linux/livepatch.h>
#include <linux/module.h>

#include "klp_cold.h"
#include "klp_compat.h"

static __klp_noipa void klp_test_cold_inner(struct klp_cold_call *call)
{
	call->inner = "patched";
}

/* Calls klp_cold_inner() by its name: ftrace decides which version runs. */
static __klp_noipa void klp_test_cold_outer(struct klp_cold_call *call)
{
	call->outer = "patched";
	if (unlikely(call->pause))
		klp_cold_pause();
	klp_cold_inner(call);
	barrier();
}

static struct klp_func klp_cold_funcs[] = {
	{
		.old_name = "klp_cold_outer",
		.new_func = klp_test_cold_outer,
	},
	{
		.old_name = "klp_cold_inner",
		.new_func = klp_test_cold_inner,
	},
	{ }
};

static struct klp_object klp_cold_objs[] = {
	{
		.name = "klp_target_cold",
		.funcs = klp_cold_funcs,
	},
	{ }
};

static struct klp_patch klp_cold_patch = {
	.mod = THIS_MODULE,
	.objs = klp_cold_objs,
};

static int __init klp_test_cold_init(void)
{
	return klp_enable_patch(&klp_cold_patch);
}

static void __exit klp_test_cold_exit(void)
{
}

module_init(klp_test_cold_init);
module_exit(klp_test_cold_exit);
MODULE_DESCRIPTION("Livepatch test: functions of klp_target_cold, one with a cold part");
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");
