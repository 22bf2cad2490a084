// SPDX-License-Identifier: GPL-2.0-only
/*
 * klp_target_model - two functions, one calling the other, of which a patch changes both.
 *
 * A read of a file in /sys/kernel/klp_model/ calls klp_model_outer(), which
 * calls klp_model_inner(), and shows "OUTER INNER", each "old" or "new":
 *
 *	calls	without sleeping
 *	inside	outer sleeps in gate 0 before it calls inner
 *	beside	a function that is not patched sleeps in gate 5, and then calls
 *		outer in the same system call
 *
 * klp_test_model patches both functions. klp_target_gate has to be loaded first.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/kernel.h>
#include <linux/kobject.h>
#include <linux/module.h>
#include <linux/sysfs.h>

#include "klp_compat.h"
#include "klp_gate.h"
#include "klp_model.h"

#define KLP_MODEL_INSIDE_GATE	0
#define KLP_MODEL_BESIDE_GATE	5

static struct kobject *klp_model_kobj;

/**
 * klp_model_inner - the function that klp_model_outer() calls
 *
 * Return: "old", or "new" when it is patched.
 */
__klp_noipa const char *klp_model_inner(void)
{
	return klp_opaque("old");
}
EXPORT_SYMBOL_GPL(klp_model_inner);

static __klp_noipa void klp_model_outer(struct klp_model_call *call)
{
	call->outer = "old";
	if (call->gate != KLP_MODEL_NO_GATE)
		klp_gate_sleep(call->gate);
	call->inner = klp_model_inner();
}

static __klp_noipa void klp_model_plain(struct klp_model_call *call)
{
	klp_gate_sleep(KLP_MODEL_BESIDE_GATE);
	klp_model_outer(call);
	barrier();
}

static ssize_t klp_model_emit(char *buf, const struct klp_model_call *call)
{
	return sysfs_emit(buf, "%s %s\n", call->outer, call->inner);
}

static ssize_t calls_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	struct klp_model_call call = { .gate = KLP_MODEL_NO_GATE };

	klp_model_outer(&call);
	return klp_model_emit(buf, &call);
}

static struct kobj_attribute klp_calls_attr = __ATTR_RO(calls);

static ssize_t inside_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	struct klp_model_call call = { .gate = KLP_MODEL_INSIDE_GATE };

	klp_model_outer(&call);
	return klp_model_emit(buf, &call);
}

static struct kobj_attribute klp_inside_attr = __ATTR_RO(inside);

static ssize_t beside_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	struct klp_model_call call = { .gate = KLP_MODEL_NO_GATE };

	klp_model_plain(&call);
	return klp_model_emit(buf, &call);
}

static struct kobj_attribute klp_beside_attr = __ATTR_RO(beside);

static struct attribute *klp_model_attrs[] = {
	&klp_calls_attr.attr,
	&klp_inside_attr.attr,
	&klp_beside_attr.attr,
	NULL
};

static const struct attribute_group klp_model_group = {
	.attrs = klp_model_attrs,
};

static int __init klp_target_model_init(void)
{
	int ret;

	klp_model_kobj = kobject_create_and_add("klp_model", kernel_kobj);
	if (!klp_model_kobj)
		return -ENOMEM;
	ret = sysfs_create_group(klp_model_kobj, &klp_model_group);
	if (ret)
		kobject_put(klp_model_kobj);
	return ret;
}

static void __exit klp_target_model_exit(void)
{
	kobject_put(klp_model_kobj);
}

module_init(klp_target_model_init);
module_exit(klp_target_model_exit);
MODULE_DESCRIPTION("Livepatch test target: a function that calls another");
MODULE_LICENSE("GPL");
