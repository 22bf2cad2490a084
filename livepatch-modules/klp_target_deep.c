// SPDX-License-Identifier: GPL-2.0-only
/*
 * klp_target_deep - a task that sleeps below many stack frames.
 *
 * Reading /sys/kernel/klp_deep/sleep calls klp_target_deep() so many times, each
 * from the one before, as the parameter says; the last call sleeps in gate 5. The
 * reader gets the number of calls that have returned.
 *
 * klp_target_gate has to be loaded first.
 *
 * Parameter: depth, the number of calls (at most 200).
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/kernel.h>
#include <linux/kobject.h>
#include <linux/minmax.h>
#include <linux/module.h>
#include <linux/sysfs.h>

#include "klp_compat.h"
#include "klp_gate.h"

#define KLP_DEEP_GATE	5
#define KLP_DEEP_MOST	200	/* a few kB of stack */

static unsigned int depth = 1;
module_param(depth, uint, 0644);
MODULE_PARM_DESC(depth, "How many calls are on the stack (default 1)");

static struct kobject *klp_deep_kobj;

/* barrier(): neither a tail call nor a loop. */
static __klp_noipa unsigned int klp_target_deep(unsigned int calls)
{
	unsigned int returned = 0;

	if (calls > 1)
		returned = klp_target_deep(calls - 1);
	else
		klp_gate_sleep(KLP_DEEP_GATE);
	barrier();
	return returned + 1;
}

static ssize_t sleep_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	unsigned int calls = min_t(unsigned int, READ_ONCE(depth), KLP_DEEP_MOST);

	return sysfs_emit(buf, "%u\n", klp_target_deep(calls));
}

static struct kobj_attribute klp_sleep_attr = __ATTR_RO(sleep);

static int __init klp_target_deep_init(void)
{
	int ret;

	klp_deep_kobj = kobject_create_and_add("klp_deep", kernel_kobj);
	if (!klp_deep_kobj)
		return -ENOMEM;
	ret = sysfs_create_file(klp_deep_kobj, &klp_sleep_attr.attr);
	if (ret)
		kobject_put(klp_deep_kobj);
	return ret;
}

static void __exit klp_target_deep_exit(void)
{
	kobject_put(klp_deep_kobj);
}

module_init(klp_target_deep_init);
module_exit(klp_target_deep_exit);
MODULE_DESCRIPTION("Livepatch test target: a deep stack");
MODULE_LICENSE("GPL");
