// SPDX-License-Identifier: GPL-2.0-only
/*
 * klp_target_notrace - a function that ftrace can hook, and one that is notrace.
 *
 * /sys/kernel/klp_notrace/ has "traced" and "untraced", which show what
 * klp_traced() and klp_untraced() return. Only the first can be patched.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/kernel.h>
#include <linux/kobject.h>
#include <linux/module.h>
#include <linux/sysfs.h>

#include "klp_compat.h"

static struct kobject *klp_notrace_kobj;

static __klp_noipa const char *klp_traced(void)
{
	return klp_opaque("traced original");
}

static __klp_noipa notrace const char *klp_untraced(void)
{
	return klp_opaque("untraced original");
}

static ssize_t traced_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%s\n", klp_traced());
}

static struct kobj_attribute klp_traced_attr = __ATTR_RO(traced);

static ssize_t untraced_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%s\n", klp_untraced());
}

static struct kobj_attribute klp_untraced_attr = __ATTR_RO(untraced);

static struct attribute *klp_notrace_attrs[] = {
	&klp_traced_attr.attr,
	&klp_untraced_attr.attr,
	NULL
};

static const struct attribute_group klp_notrace_group = {
	.attrs = klp_notrace_attrs,
};

static int __init klp_target_notrace_init(void)
{
	int ret;

	klp_notrace_kobj = kobject_create_and_add("klp_notrace", kernel_kobj);
	if (!klp_notrace_kobj)
		return -ENOMEM;
	ret = sysfs_create_group(klp_notrace_kobj, &klp_notrace_group);
	if (ret)
		kobject_put(klp_notrace_kobj);
	return ret;
}

static void __exit klp_target_notrace_exit(void)
{
	kobject_put(klp_notrace_kobj);
}

module_init(klp_target_notrace_init);
module_exit(klp_target_notrace_exit);
MODULE_DESCRIPTION("Livepatch test target: a function that cannot be traced");
MODULE_LICENSE("GPL");
