// SPDX-License-Identifier: GPL-2.0-only
/*
 * The code of a livepatch of three functions of klp_target_gate.
 *
 * The new functions sleep in the same gates as the old ones, so a task can be held
 * in either, and return 1: the device says "patched".
 *
 * The patch uses symbols of klp_target_gate, which has to be loaded first and
 * cannot be unloaded before the patch.
 *
 * Parameter: replace (bool), the patch replaces all others.
 */

#include <linux/kernel.h>
#include <linux/livepatch.h>
#include <linux/module.h>

#include "klp_compat.h"
#include "klp_gate.h"

static bool replace;
module_param(replace, bool, 0444);
MODULE_PARM_DESC(replace, "Replace all other patches (default off)");

/* barrier(): as in klp_target_gate, the sleep must not be a tail call. */
static __klp_noipa int klp_test_gate_wait(unsigned int n)
{
	klp_gate_sleep(n);
	barrier();
	return klp_opaque(1);
}

static __klp_noipa int klp_test_gate_wait_second(unsigned int n)
{
	klp_gate_sleep(n);
	barrier();
	return klp_opaque(1);
}

static __klp_noipa int klp_test_gate_wait_interruptible(unsigned int n)
{
	int ret;

	ret = klp_gate_sleep_interruptible(n);
	barrier();
	return ret ?: 1;
}

static struct klp_func klp_gate_funcs[] = {
	{
		.old_name = "klp_gate_wait",
		.new_func = klp_test_gate_wait,
	},
	{
		.old_name = "klp_gate_wait_second",
		.new_func = klp_test_gate_wait_second,
	},
	{
		.old_name = "klp_gate_wait_interruptible",
		.new_func = klp_test_gate_wait_interruptible,
	},
	{ }
};

static struct klp_object klp_gate_objs[] = {
	{
		.name = "klp_target_gate",
		.funcs = klp_gate_funcs,
	},
	{ }
};

static struct klp_patch klp_gate_patch = {
	.mod = THIS_MODULE,
	.objs = klp_gate_objs,
};

static int __init klp_test_gate_init(void)
{
	klp_gate_patch.replace = replace;
	return klp_enable_patch(&klp_gate_patch);
}

static void __exit klp_test_gate_exit(void)
{
}

module_init(klp_test_gate_init);
module_exit(klp_test_gate_exit);
MODULE_DESCRIPTION("Livepatch test: the functions of klp_target_gate");
MODULE_LICENSE("GPL");
