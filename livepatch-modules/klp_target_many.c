// SPDX-License-Identifier: GPL-2.0-only
/*
 * klp_target_many - 400 functions, klp_many_1000() to klp_many_1399().
 *
 * /sys/kernel/klp_many/bodies calls all of them and shows, in that order, a letter
 * for each: "o" when the original ran, "p" when a patched one did. A reader of
 * /sys/kernel/klp_many/hold sleeps in gate 5 inside the function whose number the
 * parameter held has, when the original of it runs.
 *
 * Parameter: held (1000 to 1399), can be changed.
 *
 * checkpatch: ignore MACRO_ARG_REUSE: the argument is a number
 * checkpatch: ignore COMPLEX_MACRO: lists of functions and of initialisers
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/kernel.h>
#include <linux/kobject.h>
#include <linux/module.h>
#include <linux/sysfs.h>

#include "klp_compat.h"
#include "klp_gate.h"
#include "klp_many.h"

#define KLP_MANY_GATE	5

static unsigned int held = KLP_MANY_FIRST;
module_param(held, uint, 0644);
MODULE_PARM_DESC(held, "The function that a reader of `hold` sleeps in");

#define KLP_TEN(each, n)					\
	each(n##0) each(n##1) each(n##2) each(n##3) each(n##4)	\
	each(n##5) each(n##6) each(n##7) each(n##8) each(n##9)
#define KLP_HUNDRED(each, n)							\
	KLP_TEN(each, n##0) KLP_TEN(each, n##1) KLP_TEN(each, n##2)		\
	KLP_TEN(each, n##3) KLP_TEN(each, n##4) KLP_TEN(each, n##5)		\
	KLP_TEN(each, n##6) KLP_TEN(each, n##7) KLP_TEN(each, n##8)		\
	KLP_TEN(each, n##9)
#define KLP_ALL(each)								\
	KLP_HUNDRED(each, 10) KLP_HUNDRED(each, 11) KLP_HUNDRED(each, 12)	\
	KLP_HUNDRED(each, 13)

/* barrier(): a tail call would leave no stack frame. */
#define KLP_DEFINE(n)						\
static __klp_noipa int klp_many_##n(bool hold)			\
{								\
	if (hold)						\
		klp_gate_sleep(KLP_MANY_GATE);			\
	barrier();						\
	return n;						\
}

KLP_ALL(KLP_DEFINE)

#define KLP_NAME(n)	klp_many_##n,
static int (*const klp_many[KLP_MANY])(bool hold) = { KLP_ALL(KLP_NAME) };

static struct kobject *klp_many_kobj;

static ssize_t bodies_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	unsigned int i;
	int ret;

	for (i = 0; i < KLP_MANY; i++) {
		ret = klp_many[i](false);
		if (ret == KLP_MANY_PATCHED)
			buf[i] = 'p';
		else
			buf[i] = ret == KLP_MANY_FIRST + i ? 'o' : '?';
	}
	buf[i++] = '\n';
	return i;
}

static struct kobj_attribute klp_bodies_attr = __ATTR_RO(bodies);

static ssize_t hold_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	unsigned int i = READ_ONCE(held) - KLP_MANY_FIRST;

	if (i >= KLP_MANY)
		return -EINVAL;
	return sysfs_emit(buf, "%d\n", klp_many[i](true));
}

static struct kobj_attribute klp_hold_attr = __ATTR_RO(hold);

static struct attribute *klp_many_attrs[] = {
	&klp_bodies_attr.attr,
	&klp_hold_attr.attr,
	NULL
};

static const struct attribute_group klp_many_group = {
	.attrs = klp_many_attrs,
};

static int __init klp_target_many_init(void)
{
	int ret;

	klp_many_kobj = kobject_create_and_add("klp_many", kernel_kobj);
	if (!klp_many_kobj)
		return -ENOMEM;
	ret = sysfs_create_group(klp_many_kobj, &klp_many_group);
	if (ret)
		kobject_put(klp_many_kobj);
	return ret;
}

static void __exit klp_target_many_exit(void)
{
	kobject_put(klp_many_kobj);
}

module_init(klp_target_many_init);
module_exit(klp_target_many_exit);
MODULE_DESCRIPTION("Livepatch test target: hundreds of functions");
MODULE_LICENSE("GPL");
