// SPDX-License-Identifier: GPL-2.0-only
/*
 * klp_target_nested - a function that is called inside handlers of ftrace.
 *
 * The files of /sys/kernel/klp_nested show what klp_nested_text() returned, which
 * is "original", when it was called
 *
 *	plain	by the reader
 *	once	in the handler of a traced function
 *	twice	in the handler of a traced function which that handler called
 *
 * and "guard" is 1 where a handler takes ftrace's guard against recursion itself.
 *
 * So it is with a probe's handler that calls a function with another probe. The
 * guard allows two levels in one context (include/linux/trace_recursion.h). Where
 * handlers do not take it, ftrace takes one around each of them.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/ftrace.h>
#include <linux/kernel.h>
#include <linux/kobject.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/string.h>
#include <linux/sysfs.h>

#include "klp_compat.h"

static DEFINE_MUTEX(klp_nested_mutex);	/* protects the two below */
static bool klp_nested_twice;
static const char *klp_nested_said;

static __klp_noipa const char *klp_nested_text(void)
{
	return klp_opaque("original");
}

/* Both are traced: klp_nested_inner() is called by the handler of the other. */
static __klp_noipa void klp_nested_inner(void)
{
	barrier();
}

static __klp_noipa void klp_nested_outer(void)
{
	barrier();
}

static void notrace klp_nested_outer_handler(unsigned long ip, unsigned long parent_ip,
					     struct ftrace_ops *ops, struct ftrace_regs *regs)
{
	int bit = ftrace_test_recursion_trylock(ip, parent_ip);

	if (bit < 0)
		return;
	if (klp_nested_twice)
		klp_nested_inner();
	else
		klp_nested_said = klp_nested_text();
	ftrace_test_recursion_unlock(bit);
}

static void notrace klp_nested_inner_handler(unsigned long ip, unsigned long parent_ip,
					     struct ftrace_ops *ops, struct ftrace_regs *regs)
{
	int bit = ftrace_test_recursion_trylock(ip, parent_ip);

	if (bit < 0)
		return;
	klp_nested_said = klp_nested_text();
	ftrace_test_recursion_unlock(bit);
}

static struct ftrace_ops klp_nested_outer_ops = {
	.func = klp_nested_outer_handler,
};

static struct ftrace_ops klp_nested_inner_ops = {
	.func = klp_nested_inner_handler,
};

static struct kobject *klp_nested_kobj;

static ssize_t klp_nested_show(char *buf, bool twice)
{
	int ret;

	mutex_lock(&klp_nested_mutex);
	klp_nested_twice = twice;
	klp_nested_said = "no handler ran";
	klp_nested_outer();
	ret = sysfs_emit(buf, "%s\n", klp_nested_said);
	mutex_unlock(&klp_nested_mutex);
	return ret;
}

static ssize_t plain_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%s\n", klp_nested_text());
}

static struct kobj_attribute klp_plain_attr = __ATTR_RO(plain);

static ssize_t once_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	return klp_nested_show(buf, false);
}

static struct kobj_attribute klp_once_attr = __ATTR_RO(once);

static ssize_t twice_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	return klp_nested_show(buf, true);
}

static struct kobj_attribute klp_twice_attr = __ATTR_RO(twice);

static ssize_t guard_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%d\n", KLP_HANDLERS_TAKE_GUARD);
}

static struct kobj_attribute klp_guard_attr = __ATTR_RO(guard);

static struct attribute *klp_nested_attrs[] = {
	&klp_plain_attr.attr,
	&klp_once_attr.attr,
	&klp_twice_attr.attr,
	&klp_guard_attr.attr,
	NULL
};

static const struct attribute_group klp_nested_group = {
	.attrs = klp_nested_attrs,
};

static int klp_nested_trace(struct ftrace_ops *ops, char *name)
{
	int ret = ftrace_set_filter(ops, name, strlen(name), 1);

	return ret ?: register_ftrace_function(ops);
}

static int __init klp_target_nested_init(void)
{
	int ret;

	ret = klp_nested_trace(&klp_nested_outer_ops, "klp_nested_outer");
	if (ret)
		return ret;
	ret = klp_nested_trace(&klp_nested_inner_ops, "klp_nested_inner");
	if (ret)
		goto err_outer;
	klp_nested_kobj = kobject_create_and_add("klp_nested", kernel_kobj);
	if (!klp_nested_kobj) {
		ret = -ENOMEM;
		goto err_inner;
	}
	ret = sysfs_create_group(klp_nested_kobj, &klp_nested_group);
	if (ret)
		goto err_kobj;
	return 0;

err_kobj:
	kobject_put(klp_nested_kobj);
err_inner:
	unregister_ftrace_function(&klp_nested_inner_ops);
err_outer:
	unregister_ftrace_function(&klp_nested_outer_ops);
	return ret;
}

static void __exit klp_target_nested_exit(void)
{
	kobject_put(klp_nested_kobj);
	unregister_ftrace_function(&klp_nested_inner_ops);
	unregister_ftrace_function(&klp_nested_outer_ops);
}

module_init(klp_target_nested_init);
module_exit(klp_target_nested_exit);
MODULE_DESCRIPTION("Livepatch test target: a function that handlers of ftrace call");
MODULE_LICENSE("GPL");
