// SPDX-License-Identifier: GPL-2.0-only
/*
 * The code of a livepatch that patches no function and logs all its callbacks.
 *
 * Its objects, in order: vmlinux, klp_target_mod, klp_target_notrace. The kernel
 * accepts an object with an empty list of functions. Most tests do not load
 * klp_target_notrace.
 *
 * Parameters:
 *	replace			the patch replaces all others
 *	pre_patch_ret		what pre_patch of vmlinux returns
 *	pre_patch_ret_target	what pre_patch of klp_target_mod returns
 */

#include <linux/kernel.h>
#include <linux/livepatch.h>
#include <linux/module.h>

#include "klp_callbacks.h"

static bool replace;
module_param(replace, bool, 0444);
MODULE_PARM_DESC(replace, "Replace all other patches (default off)");

static int pre_patch_ret;
module_param(pre_patch_ret, int, 0644);
MODULE_PARM_DESC(pre_patch_ret, "What pre_patch of vmlinux returns (default 0)");

static int pre_patch_ret_target;
module_param(pre_patch_ret_target, int, 0644);
MODULE_PARM_DESC(pre_patch_ret_target, "What pre_patch of klp_target_mod returns (default 0)");

static int klp_vmlinux_pre_patch(struct klp_object *obj)
{
	klp_log_pre_patch(obj);
	return pre_patch_ret;
}

static int klp_target_pre_patch(struct klp_object *obj)
{
	klp_log_pre_patch(obj);
	return pre_patch_ret_target;
}

static struct klp_func klp_no_funcs[] = {
	{ }
};

static struct klp_object klp_callbacks_objs[] = {
	{
		.funcs = klp_no_funcs,
		.callbacks = KLP_LOG_CALLBACKS(klp_vmlinux_pre_patch),
	},
	{
		.name = "klp_target_mod",
		.funcs = klp_no_funcs,
		.callbacks = KLP_LOG_CALLBACKS(klp_target_pre_patch),
	},
	{
		.name = "klp_target_notrace",
		.funcs = klp_no_funcs,
		.callbacks = KLP_LOG_CALLBACKS(klp_log_pre_patch),
	},
	{ }
};

static struct klp_patch klp_callbacks_patch = {
	.mod = THIS_MODULE,
	.objs = klp_callbacks_objs,
};

static int __init klp_callbacks_init(void)
{
	klp_callbacks_patch.replace = replace;
	return klp_enable_patch(&klp_callbacks_patch);
}

static void __exit klp_callbacks_exit(void)
{
}

module_init(klp_callbacks_init);
module_exit(klp_callbacks_exit);
MODULE_DESCRIPTION("Livepatch test: callbacks of vmlinux and of modules");
MODULE_LICENSE("GPL");
