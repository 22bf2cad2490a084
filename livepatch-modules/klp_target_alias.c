// SPDX-License-Identifier: GPL-2.0-only
/*
 * klp_target_alias - a function with two names.
 *
 * klp_named() and klp_alias() are one function. The kernel has such pairs, too:
 * __do_sys_setsid() is __x64_sys_setsid().
 *
 * /sys/kernel/klp_alias/ has
 *
 *	text	what klp_named() returns
 *	held	sleeps in gate 0 inside klp_alias_hold(), and shows what klp_named()
 *		returned there afterwards
 *
 * klp_target_gate has to be loaded first.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/kernel.h>
#include <linux/kobject.h>
#include <linux/module.h>
#include <linux/sysfs.h>

#include "klp_compat.h"
#include "klp_gate.h"

#define KLP_ALIAS_GATE	0

static struct kobject *klp_alias_kobj;

static __klp_noipa const char *klp_named(void)
{
	return klp_opaque("original");
}

static const char *klp_alias(void) __used __alias(klp_named);

static __klp_noipa const char *klp_alias_hold(void)
{
	const char *text;

	klp_gate_sleep(KLP_ALIAS_GATE);
	text = klp_named();
	barrier();
	return text;
}

static ssize_t text_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%s\n", klp_named());
}

static struct kobj_attribute klp_text_attr = __ATTR_RO(text);

static ssize_t held_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%s\n", klp_alias_hold());
}

static struct kobj_attribute klp_held_attr = __ATTR_RO(held);

static struct attribute *klp_alias_attrs[] = {
	&klp_text_attr.attr,
	&klp_held_attr.attr,
	NULL
};

static const struct attribute_group klp_alias_group = {
	.attrs = klp_alias_attrs,
};

static int __init klp_target_alias_init(void)
{
	int ret;

	klp_alias_kobj = kobject_create_and_add("klp_alias", kernel_kobj);
	if (!klp_alias_kobj)
		return -ENOMEM;
	ret = sysfs_create_group(klp_alias_kobj, &klp_alias_group);
	if (ret)
		kobject_put(klp_alias_kobj);
	return ret;
}

static void __exit klp_target_alias_exit(void)
{
	kobject_put(klp_alias_kobj);
}

module_init(klp_target_alias_init);
module_exit(klp_target_alias_exit);
MODULE_DESCRIPTION("Livepatch test target: a function with two names");
MODULE_LICENSE("GPL");
