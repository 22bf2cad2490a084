// SPDX-License-Identifier: GPL-2.0-only
/*
 * klp_target_bare - a task whose stack has a function of a module without ORC data.
 *
 * objtool does not look at this module (Kbuild), so it has none at all: the unwinder
 * notes an error, and goes on by the frame pointer, which the functions here keep
 * (orc_fp_entry, arch/x86/kernel/unwind_orc.c). It reaches user space in that way,
 * and the stack is unreliable all the same. Reading /sys/kernel/klp_bare/sleep
 * sleeps in gate 5, and says "bare".
 *
 * klp_target_gate has to be loaded first.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/kernel.h>
#include <linux/kobject.h>
#include <linux/module.h>
#include <linux/sysfs.h>

#include "klp_gate.h"

#define KLP_BARE_GATE	5

static struct kobject *klp_bare_kobj;

/* What follows keeps it from being a tail call, which leaves no frame. */
static ssize_t sleep_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	klp_gate_sleep(KLP_BARE_GATE);
	return sysfs_emit(buf, "bare\n");
}

static struct kobj_attribute klp_sleep_attr = __ATTR_RO(sleep);

static int __init klp_target_bare_init(void)
{
	int ret;

	klp_bare_kobj = kobject_create_and_add("klp_bare", kernel_kobj);
	if (!klp_bare_kobj)
		return -ENOMEM;
	ret = sysfs_create_file(klp_bare_kobj, &klp_sleep_attr.attr);
	if (ret)
		kobject_put(klp_bare_kobj);
	return ret;
}

static void __exit klp_target_bare_exit(void)
{
	kobject_put(klp_bare_kobj);
}

module_init(klp_target_bare_init);
module_exit(klp_target_bare_exit);
MODULE_DESCRIPTION("Livepatch test target: a module without ORC data");
MODULE_LICENSE("GPL");
