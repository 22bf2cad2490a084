// SPDX-License-Identifier: GPL-2.0-only
/*
 * klp_target_special - a target with a static key, a static call and the like.
 *
 * /sys/kernel/klp_special/use shows what klp_special_use() writes: "original ",
 * and how these work (klp_special_use.inc.c). Writing 1 or 0 to
 * /sys/kernel/klp_special/on switches those of this module. The log has a line of
 * its init, too.
 *
 * Parameter: warn, see klp_special_use.inc.c.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/kobject.h>
#include <linux/slab.h>

#include "klp_special_use.inc.c"

static struct kobject *klp_special_kobj;
static bool klp_special_on;	/* sysfs has one writer of a file at a time */

static __klp_noipa int klp_special_use(char *buf, bool warns)
{
	int len = klp_special_show(buf, warns);

	barrier();
	return len;
}

static ssize_t use_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	return klp_special_use(buf, warn);
}

static struct kobj_attribute klp_use_attr = __ATTR_RO(use);

static ssize_t on_store(struct kobject *kobj, struct kobj_attribute *attr, const char *buf,
			size_t count)
{
	bool on;
	int ret;

	ret = kstrtobool(buf, &on);
	if (ret)
		return ret;
	if (on != klp_special_on)
		ret = klp_special_switch(on);
	klp_special_on = on;
	return ret ?: count;
}

static struct kobj_attribute klp_on_attr = __ATTR_WO(on);

static struct attribute *klp_special_attrs[] = {
	&klp_use_attr.attr,
	&klp_on_attr.attr,
	NULL
};

static const struct attribute_group klp_special_group = {
	.attrs = klp_special_attrs,
};

static int klp_special_log(void)
{
	char *line = (char *)get_zeroed_page(GFP_KERNEL);

	if (!line)
		return -ENOMEM;
	klp_special_use(line, warn);
	pr_info("init %s", line);
	free_page((unsigned long)line);
	return 0;
}

static int __init klp_target_special_init(void)
{
	int ret;

	ret = klp_special_log();
	if (ret)
		return ret;
	klp_special_kobj = kobject_create_and_add("klp_special", kernel_kobj);
	if (!klp_special_kobj)
		return -ENOMEM;
	ret = sysfs_create_group(klp_special_kobj, &klp_special_group);
	if (ret)
		kobject_put(klp_special_kobj);
	return ret;
}

static void __exit klp_target_special_exit(void)
{
	kobject_put(klp_special_kobj);
	if (klp_special_on)
		klp_special_switch(false);
}

module_init(klp_target_special_init);
module_exit(klp_target_special_exit);
MODULE_DESCRIPTION("Livepatch test target: sections that the kernel patches");
MODULE_LICENSE("GPL");
