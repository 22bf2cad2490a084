// SPDX-License-Identifier: GPL-2.0-only
/*
 * klp_target_cold - a function of which the compiler has moved a branch elsewhere.
 *
 * klp_cold_outer() calls klp_cold_inner(). Before that it pauses, in a branch that
 * the compiler puts into .text.unlikely under the name klp_cold_outer.cold: the
 * return address of the pause is there, and not between the start and the end of
 * klp_cold_outer(). The new function of klp_test_cold is made in the same way.
 *
 * A read of /sys/kernel/klp_cold/call makes one call, which pauses in gate 5, and
 * shows "outer VERSION inner VERSION".
 *
 * klp_target_gate has to be loaded first.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/kernel.h>
#include <linux/kobject.h>
#include <linux/module.h>
#include <linux/sysfs.h>

#include "klp_cold.h"
#include "klp_compat.h"
#include "klp_gate.h"

#define KLP_COLD_GATE	5

static struct kobject *klp_cold_kobj;

/**
 * klp_cold_pause - pause inside klp_cold_outer()
 */
noinline void klp_cold_pause(void)
{
	klp_gate_sleep(KLP_COLD_GATE);
	barrier();
}
EXPORT_SYMBOL_GPL(klp_cold_pause);

/**
 * klp_cold_inner - the function that klp_cold_outer() calls
 * @call: the call
 */
__klp_noipa void klp_cold_inner(struct klp_cold_call *call)
{
	call->inner = "original";
}
EXPORT_SYMBOL_GPL(klp_cold_inner);

static __klp_noipa void klp_cold_outer(struct klp_cold_call *call)
{
	call->outer = "original";
	if (unlikely(call->pause))
		klp_cold_pause();
	klp_cold_inner(call);
	barrier();
}

static ssize_t call_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	struct klp_cold_call call = { .pause = true };

	klp_cold_outer(&call);
	return sysfs_emit(buf, "outer %s inner %s\n", call.outer, call.inner);
}

static struct kobj_attribute klp_call_attr = __ATTR_RO(call);

static int __init klp_target_cold_init(void)
{
	int ret;

	klp_cold_kobj = kobject_create_and_add("klp_cold", kernel_kobj);
	if (!klp_cold_kobj)
		return -ENOMEM;
	ret = sysfs_create_file(klp_cold_kobj, &klp_call_attr.attr);
	if (ret)
		kobject_put(klp_cold_kobj);
	return ret;
}

static void __exit klp_target_cold_exit(void)
{
	kobject_put(klp_cold_kobj);
}

module_init(klp_target_cold_init);
module_exit(klp_target_cold_exit);
MODULE_DESCRIPTION("Livepatch test target: a function with a branch in .text.unlikely");
MODULE_LICENSE("GPL");
