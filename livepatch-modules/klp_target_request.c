// SPDX-License-Identifier: GPL-2.0-only
/*
 * klp_target_request - a function that needs another module.
 *
 * A read of /sys/kernel/klp_request/request calls klp_request(), which has the
 * kernel load "klp_requested" and waits for that: the program that
 * /proc/sys/kernel/modprobe names loads it. The file shows "request original", or
 * "request failed" when that program failed.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/kernel.h>
#include <linux/kmod.h>
#include <linux/kobject.h>
#include <linux/module.h>
#include <linux/sysfs.h>

#include "klp_compat.h"

static struct kobject *klp_request_kobj;

static __klp_noipa const char *klp_request(void)
{
	return request_module("klp_requested") ? "request failed" : "request original";
}

static ssize_t request_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%s\n", klp_request());
}

static struct kobj_attribute klp_request_attr = __ATTR_RO(request);

static int __init klp_target_request_init(void)
{
	int ret;

	klp_request_kobj = kobject_create_and_add("klp_request", kernel_kobj);
	if (!klp_request_kobj)
		return -ENOMEM;
	ret = sysfs_create_file(klp_request_kobj, &klp_request_attr.attr);
	if (ret)
		kobject_put(klp_request_kobj);
	return ret;
}

static void __exit klp_target_request_exit(void)
{
	kobject_put(klp_request_kobj);
}

module_init(klp_target_request_init);
module_exit(klp_target_request_exit);
MODULE_DESCRIPTION("Livepatch test target: a function that needs another module");
MODULE_LICENSE("GPL");
