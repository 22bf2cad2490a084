// SPDX-License-Identifier: GPL-2.0-only
/*
 * klp_test_gate_callbacks - patches klp_gate_wait(), with callbacks.
 *
 * A task in gate 0, 1 or 2 blocks the transition between the pre- and the
 * post-callbacks of vmlinux and klp_target_gate. Logs its callbacks, see
 * klp_callbacks.h. No function of vmlinux is patched.
 *
 * klp_target_gate has to be loaded first.
 *
 * Parameter: replace (bool), the patch replaces all others.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/kernel.h>
#include <linux/livepatch.h>
#include <linux/module.h>

#include "klp_callbacks.h"
#include "klp_compat.h"
#include "klp_gate.h"

static bool replace;
module_param(replace, bool, 0444);
MODULE_PARM_DESC(replace, "Replace all other patches (default off)");

static __klp_noipa int klp_test_gate_callbacks_wait(unsigned int n)
{
	klp_gate_sleep(n);
	barrier();
	return klp_opaque(1);
}

static struct klp_func klp_vmlinux_funcs[] = {
	{ }
};

static struct klp_func klp_gate_funcs[] = {
	{
		.old_name = "klp_gate_wait",
		.new_func = klp_test_gate_callbacks_wait,
	},
	{ }
};

static struct klp_object klp_gate_objs[] = {
	{
		.funcs = klp_vmlinux_funcs,
		.callbacks = KLP_LOG_CALLBACKS(klp_log_pre_patch),
	},
	{
		.name = "klp_target_gate",
		.funcs = klp_gate_funcs,
		.callbacks = KLP_LOG_CALLBACKS(klp_log_pre_patch),
	},
	{ }
};

static struct klp_patch klp_gate_patch = {
	.mod = THIS_MODULE,
	.objs = klp_gate_objs,
};

static int __init klp_test_gate_callbacks_init(void)
{
	klp_gate_patch.replace = replace;
	return klp_enable_patch(&klp_gate_patch);
}

static void __exit klp_test_gate_callbacks_exit(void)
{
}

module_init(klp_test_gate_callbacks_init);
module_exit(klp_test_gate_callbacks_exit);
MODULE_DESCRIPTION("Livepatch test: klp_gate_wait() with callbacks");
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");
