// SPDX-License-Identifier: GPL-2.0-only
/*
 * klp_target_lost - a task whose stack the unwinder cannot follow.
 *
 * klp_lost_sleep() sleeps in gate 5. It has no ORC data, because objtool is told to
 * ignore it, so its callers cannot be found by unwinding. Reading
 * /sys/kernel/klp_lost/inside calls it from klp_target_lost(), reading "outside"
 * without that.
 *
 * klp_target_gate has to be loaded first.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/kernel.h>
#include <linux/kobject.h>
#include <linux/module.h>
#include <linux/objtool.h>
#include <linux/sysfs.h>

#include "klp_compat.h"
#include "klp_gate.h"

#define KLP_LOST_GATE	5

static struct kobject *klp_lost_kobj;

static void klp_lost_sleep(void);

/* The compiler must keep the order of the two functions below. */
#define __klp_in_order	__attribute__((__no_reorder__))

static __klp_noipa __klp_in_order const char *klp_target_lost(void)
{
	klp_lost_sleep();
	barrier();
	return klp_opaque("lost original");
}

/*
 * It must follow another function: the ORC data have an entry "undefined" where
 * that function ends, and none before the first function of a module.
 */
static __klp_noipa __klp_in_order void klp_lost_sleep(void)
{
	klp_gate_sleep(KLP_LOST_GATE);
	barrier();
}

STACK_FRAME_NON_STANDARD(klp_lost_sleep);

static ssize_t inside_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%s\n", klp_target_lost());
}

static struct kobj_attribute klp_inside_attr = __ATTR_RO(inside);

static ssize_t outside_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	klp_lost_sleep();
	return sysfs_emit(buf, "outside\n");
}

static struct kobj_attribute klp_outside_attr = __ATTR_RO(outside);

static struct attribute *klp_lost_attrs[] = {
	&klp_inside_attr.attr,
	&klp_outside_attr.attr,
	NULL
};

static const struct attribute_group klp_lost_group = {
	.attrs = klp_lost_attrs,
};

static int __init klp_target_lost_init(void)
{
	int ret;

	klp_lost_kobj = kobject_create_and_add("klp_lost", kernel_kobj);
	if (!klp_lost_kobj)
		return -ENOMEM;
	ret = sysfs_create_group(klp_lost_kobj, &klp_lost_group);
	if (ret)
		kobject_put(klp_lost_kobj);
	return ret;
}

static void __exit klp_target_lost_exit(void)
{
	kobject_put(klp_lost_kobj);
}

module_init(klp_target_lost_init);
module_exit(klp_target_lost_exit);
MODULE_DESCRIPTION("Livepatch test target: a stack that cannot be unwound reliably");
MODULE_LICENSE("GPL");
