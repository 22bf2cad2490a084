// SPDX-License-Identifier: GPL-2.0-only
/*
 * klp_test_held - patches cmdline_proc_show() of vmlinux and holds its own kobject.
 *
 * A reference to the kobject of a patch, such as sysfs takes, keeps the memory of
 * the patch in use: its module must not be unloaded before the last reference is
 * dropped.
 *
 * Parameter: held (bool, writable), the module holds a reference to the kobject of
 * its patch. Set it while the patch is enabled, and clear it afterwards.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/kernel.h>
#include <linux/kobject.h>
#include <linux/livepatch.h>
#include <linux/module.h>
#include <linux/seq_file.h>

#include "klp_compat.h"

static __klp_noipa int klp_test_cmdline_show(struct seq_file *m, void *v)
{
	seq_printf(m, "%s: this has been live patched\n", THIS_MODULE->name);
	return 0;
}

static struct klp_func klp_held_funcs[] = {
	{
		.old_name = "cmdline_proc_show",
		.new_func = klp_test_cmdline_show,
	},
	{ }
};

static struct klp_object klp_held_objs[] = {
	{
		/* name NULL: vmlinux */
		.funcs = klp_held_funcs,
	},
	{ }
};

static struct klp_patch klp_held_patch = {
	.mod = THIS_MODULE,
	.objs = klp_held_objs,
};

static bool held;

/* Called under the lock of this module's parameters. */
static int klp_held_set(const char *val, const struct kernel_param *kp)
{
	bool before = held;
	int ret;

	ret = param_set_bool(val, kp);
	if (ret)
		return ret;
	if (held && !before)
		kobject_get(&klp_held_patch.kobj);
	else if (!held && before)
		kobject_put(&klp_held_patch.kobj);
	return 0;
}

static const struct kernel_param_ops klp_held_ops = {
	.set = klp_held_set,
	.get = param_get_bool,
};
module_param_cb(held, &klp_held_ops, &held, 0644);
MODULE_PARM_DESC(held, "Hold the patch's kobject (set it once the patch is enabled)");

static int __init klp_test_held_init(void)
{
	if (held)
		return -EINVAL;
	return klp_enable_patch(&klp_held_patch);
}

static void __exit klp_test_held_exit(void)
{
}

module_init(klp_test_held_init);
module_exit(klp_test_held_exit);
MODULE_DESCRIPTION("Livepatch test: a patch whose kobject is held");
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");
