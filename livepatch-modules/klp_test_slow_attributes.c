// SPDX-License-Identifier: GPL-2.0-only
/*
 * klp_test_slow_attributes - patches sysfs_create_groups(), which gives kobjects their files.
 *
 * Who makes those of "vmlinux" sleeps in gate 6: with the gate closed, a livepatch of
 * vmlinux stays inside klp_init_patch(), and keeps klp_mutex, until it is opened.
 *
 * klp_target_gate has to be loaded first.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/kernel.h>
#include <linux/kobject.h>
#include <linux/livepatch.h>
#include <linux/module.h>
#include <linux/string.h>
#include <linux/sysfs.h>

#include "klp_compat.h"
#include "klp_gate.h"

#define KLP_SLOW_GATE	6

static __klp_noipa int klp_slow_attributes(struct kobject *kobj,
					   const struct attribute_group *const *groups)
{
	int i, ret = 0;

	if (!strcmp(kobject_name(kobj), "vmlinux"))
		klp_gate_sleep(KLP_SLOW_GATE);
	for (i = 0; groups && groups[i]; i++) {
		ret = sysfs_create_group(kobj, groups[i]);
		if (ret)
			break;
	}
	while (ret && i--)
		sysfs_remove_group(kobj, groups[i]);
	return ret;
}

static struct klp_func klp_vmlinux_funcs[] = {
	{
		.old_name = "sysfs_create_groups",
		.new_func = klp_slow_attributes,
	},
	{ }
};

static struct klp_object klp_slow_objs[] = {
	{
		.funcs = klp_vmlinux_funcs,
	},
	{ }
};

static struct klp_patch klp_slow_patch = {
	.mod = THIS_MODULE,
	.objs = klp_slow_objs,
};

static int __init klp_test_slow_attributes_init(void)
{
	return klp_enable_patch(&klp_slow_patch);
}

static void __exit klp_test_slow_attributes_exit(void)
{
}

module_init(klp_test_slow_attributes_init);
module_exit(klp_test_slow_attributes_exit);
MODULE_DESCRIPTION("Livepatch test: the files of an object are made slowly");
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");
