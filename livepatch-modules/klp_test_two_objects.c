// SPDX-License-Identifier: GPL-2.0-only
/*
 * klp_test_two_objects - patches a function of vmlinux, and then one of klp_target_mod.
 *
 * /proc/cmdline shows "klp_test_two_objects: this has been live patched", and
 * klp_target_f() returns "f klp_test_two_objects". Logs the callbacks of both
 * objects, see klp_callbacks.h.
 *
 * Parameters: pre_patch_ret_target, what pre_patch of klp_target_mod returns. By
 * then the function of vmlinux is patched, and has to be unpatched again. replace
 * (bool), the patch replaces all others. swapped (bool), the module's function comes
 * first.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/kernel.h>
#include <linux/livepatch.h>
#include <linux/minmax.h>
#include <linux/module.h>
#include <linux/seq_file.h>

#include "klp_callbacks.h"
#include "klp_compat.h"

static int pre_patch_ret_target;
module_param(pre_patch_ret_target, int, 0644);
MODULE_PARM_DESC(pre_patch_ret_target, "What pre_patch of klp_target_mod returns (default 0)");

static bool replace;
module_param(replace, bool, 0444);
MODULE_PARM_DESC(replace, "Replace all other patches (default off)");

static bool swapped;
module_param(swapped, bool, 0444);
MODULE_PARM_DESC(swapped, "Patch the module's function first (default off)");

static __klp_noipa int klp_test_two_objects_cmdline(struct seq_file *m, void *v)
{
	seq_printf(m, "%s: this has been live patched\n", KBUILD_MODNAME);
	return 0;
}

static __klp_noipa const char *klp_test_two_objects_f(void)
{
	return klp_opaque("f " KBUILD_MODNAME);
}

static int klp_target_pre_patch(struct klp_object *obj)
{
	klp_log_pre_patch(obj);
	return pre_patch_ret_target;
}

static struct klp_func klp_vmlinux_funcs[] = {
	{
		.old_name = "cmdline_proc_show",
		.new_func = klp_test_two_objects_cmdline,
	},
	{ }
};

static struct klp_func klp_target_funcs[] = {
	{
		.old_name = "klp_target_f",
		.new_func = klp_test_two_objects_f,
	},
	{ }
};

static struct klp_object klp_two_objs[] = {
	{
		.funcs = klp_vmlinux_funcs,
		.callbacks = KLP_LOG_CALLBACKS(klp_log_pre_patch),
	},
	{
		.name = "klp_target_mod",
		.funcs = klp_target_funcs,
		.callbacks = KLP_LOG_CALLBACKS(klp_target_pre_patch),
	},
	{ }
};

static struct klp_patch klp_two_patch = {
	.mod = THIS_MODULE,
	.objs = klp_two_objs,
};

static int __init klp_test_two_objects_init(void)
{
	klp_two_patch.replace = replace;
	if (swapped)
		swap(klp_two_objs[0], klp_two_objs[1]);
	return klp_enable_patch(&klp_two_patch);
}

static void __exit klp_test_two_objects_exit(void)
{
}

module_init(klp_test_two_objects_init);
module_exit(klp_test_two_objects_exit);
MODULE_DESCRIPTION("Livepatch test: functions of vmlinux and of klp_target_mod");
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");
