// SPDX-License-Identifier: GPL-2.0-only
/*
 * klp_target_twins - three static functions of the same name in one module.
 *
 * /sys/kernel/klp_twins/ has "first", "second" and "third", which show what the
 * klp_twin() of each source file returns. A livepatch selects one by sympos, its
 * position among the symbols of that name: kallsyms keeps the link order, which
 * is the order of the objects in Kbuild. So the klp_twin() of this file is
 * sympos 1, that of klp_target_twins_second.c is sympos 2, and that of
 * klp_target_twins_third.c is sympos 3.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/kernel.h>
#include <linux/kobject.h>
#include <linux/module.h>
#include <linux/sysfs.h>

#include "klp_compat.h"
#include "klp_twins.h"

static struct kobject *klp_twins_kobj;

static __klp_noipa const char *klp_twin(void)
{
	return klp_opaque("first");
}

static ssize_t first_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%s\n", klp_twin());
}

static struct kobj_attribute klp_first_attr = __ATTR_RO(first);

static ssize_t second_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%s\n", klp_twins_second());
}

static struct kobj_attribute klp_second_attr = __ATTR_RO(second);

static ssize_t third_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%s\n", klp_twins_third());
}

static struct kobj_attribute klp_third_attr = __ATTR_RO(third);

static struct attribute *klp_twins_attrs[] = {
	&klp_first_attr.attr,
	&klp_second_attr.attr,
	&klp_third_attr.attr,
	NULL
};

static const struct attribute_group klp_twins_group = {
	.attrs = klp_twins_attrs,
};

static int __init klp_target_twins_init(void)
{
	int ret;

	klp_twins_kobj = kobject_create_and_add("klp_twins", kernel_kobj);
	if (!klp_twins_kobj)
		return -ENOMEM;
	ret = sysfs_create_group(klp_twins_kobj, &klp_twins_group);
	if (ret)
		kobject_put(klp_twins_kobj);
	return ret;
}

static void __exit klp_target_twins_exit(void)
{
	kobject_put(klp_twins_kobj);
}

module_init(klp_target_twins_init);
module_exit(klp_target_twins_exit);
MODULE_DESCRIPTION("Livepatch test target: three functions of the same name");
MODULE_LICENSE("GPL");
