// SPDX-License-Identifier: GPL-2.0-only
/*
 * klp_test_slow_callback - its post_patch and post_unpatch callbacks sleep in gate 6;
 * patches no function.
 *
 * With the gate closed, a transition does not end and klp_mutex is held until the
 * gate is opened. Logs its callbacks, see klp_callbacks.h.
 *
 * klp_target_gate has to be loaded first.
 *
 * Parameters: pre_patch_ret (int), pre_patch sleeps in gate 6, too, and returns this;
 * replace (bool), the patch replaces all others.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/kernel.h>
#include <linux/livepatch.h>
#include <linux/module.h>

#include "klp_callbacks.h"
#include "klp_gate.h"

#define KLP_SLOW_GATE	6

static int pre_patch_ret;
module_param(pre_patch_ret, int, 0444);
MODULE_PARM_DESC(pre_patch_ret, "pre_patch sleeps, too, and returns this (default 0: it does not)");

static bool replace;
module_param(replace, bool, 0444);
MODULE_PARM_DESC(replace, "Replace all other patches (default off)");

static int klp_slow_pre_patch(struct klp_object *obj)
{
	if (pre_patch_ret)
		klp_gate_sleep(KLP_SLOW_GATE);
	return klp_log_pre_patch(obj) ?: pre_patch_ret;
}

static void klp_slow_post_patch(struct klp_object *obj)
{
	klp_gate_sleep(KLP_SLOW_GATE);
	klp_log_post_patch(obj);
}

static void klp_slow_post_unpatch(struct klp_object *obj)
{
	klp_gate_sleep(KLP_SLOW_GATE);
	klp_log_post_unpatch(obj);
}

static struct klp_func klp_no_funcs[] = {
	{ }
};

static struct klp_object klp_slow_objs[] = {
	{
		.funcs = klp_no_funcs,
		.callbacks = {
			.pre_patch = klp_slow_pre_patch,
			.post_patch = klp_slow_post_patch,
			.pre_unpatch = klp_log_pre_unpatch,
			.post_unpatch = klp_slow_post_unpatch,
		},
	},
	{ }
};

static struct klp_patch klp_slow_patch = {
	.mod = THIS_MODULE,
	.objs = klp_slow_objs,
};

static int __init klp_test_slow_callback_init(void)
{
	klp_slow_patch.replace = replace;
	return klp_enable_patch(&klp_slow_patch);
}

static void __exit klp_test_slow_callback_exit(void)
{
}

module_init(klp_test_slow_callback_init);
module_exit(klp_test_slow_callback_exit);
MODULE_DESCRIPTION("Livepatch test: a post_patch callback that sleeps in a gate");
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");
