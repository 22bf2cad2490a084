// SPDX-License-Identifier: GPL-2.0-only
/*
 * klp_target_mod - a target module that tests load and unload.
 *
 * /sys/kernel/klp_target/ has "f" and "g", which show what klp_target_f() and
 * klp_target_g() return, and "pair", which calls both in one read. The log has
 * "init sees: TEXT" and "exit sees: TEXT", the text that klp_target_f()
 * returned there.
 *
 * Parameters:
 *	init_ret	what init returns: a negative errno makes the load fail
 *	busy		init starts a kthread "klp_target_busy" and returns when
 *			it is inside klp_target_busy(). It stays there until
 *			/sys/kernel/klp_target/release is written or the module
 *			is unloaded, and then logs "busy sees: TEXT".
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/completion.h>
#include <linux/kernel.h>
#include <linux/kobject.h>
#include <linux/kthread.h>
#include <linux/module.h>
#include <linux/sched.h>
#include <linux/sysfs.h>
#include <linux/wait.h>

#include "klp_compat.h"
#include "klp_kthread.h"

static int init_ret;
module_param(init_ret, int, 0444);
MODULE_PARM_DESC(init_ret, "What init returns (default 0)");

static bool busy;
module_param(busy, bool, 0444);
MODULE_PARM_DESC(busy, "Start a kthread that sleeps inside klp_target_busy() (default off)");

static struct kobject *klp_target_kobj;

static DECLARE_WAIT_QUEUE_HEAD(klp_busy_wait);
static DECLARE_COMPLETION(klp_busy_entered);
static bool klp_busy_released;
static struct task_struct *klp_busy_task;

static __klp_noipa const char *klp_target_f(void)
{
	return klp_opaque("f original");
}

static __klp_noipa const char *klp_target_g(void)
{
	return klp_opaque("g original");
}

static __klp_noipa const char *klp_target_busy(void)
{
	complete(&klp_busy_entered);
	wait_event_idle(klp_busy_wait, READ_ONCE(klp_busy_released));
	return klp_opaque("busy original");
}

static void klp_busy_release(void)
{
	WRITE_ONCE(klp_busy_released, true);
	wake_up_all(&klp_busy_wait);
}

static int klp_busy_thread(void *unused)
{
	const char *text = klp_target_busy();

	/* A new klp_target_busy() does not complete it. */
	complete_all(&klp_busy_entered);
	pr_info("busy sees: %s\n", text);
	klp_kthread_wait_for_stop();
	return 0;
}

static ssize_t f_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%s\n", klp_target_f());
}

static struct kobj_attribute klp_f_attr = __ATTR_RO(f);

static ssize_t g_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%s\n", klp_target_g());
}

static struct kobj_attribute klp_g_attr = __ATTR_RO(g);

static ssize_t pair_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	const char *f = klp_target_f();
	const char *g = klp_target_g();

	return sysfs_emit(buf, "%s %s\n", f, g);
}

static struct kobj_attribute klp_pair_attr = __ATTR_RO(pair);

static ssize_t release_store(struct kobject *kobj, struct kobj_attribute *attr, const char *buf,
			     size_t count)
{
	klp_busy_release();
	return count;
}

static struct kobj_attribute klp_release_attr = __ATTR_WO(release);

static struct attribute *klp_target_attrs[] = {
	&klp_f_attr.attr,
	&klp_g_attr.attr,
	&klp_pair_attr.attr,
	&klp_release_attr.attr,
	NULL
};

static const struct attribute_group klp_target_group = {
	.attrs = klp_target_attrs,
};

static int klp_busy_start(void)
{
	return klp_kthread_start(&klp_busy_task, klp_busy_thread, "klp_target_busy",
				 &klp_busy_entered);
}

static int __init klp_target_mod_init(void)
{
	int ret;

	pr_info("init sees: %s\n", klp_target_f());
	if (init_ret < 0)
		return init_ret;

	klp_target_kobj = kobject_create_and_add("klp_target", kernel_kobj);
	if (!klp_target_kobj)
		return -ENOMEM;
	ret = sysfs_create_group(klp_target_kobj, &klp_target_group);
	if (!ret && busy)
		ret = klp_busy_start();
	if (ret) {
		kobject_put(klp_target_kobj);
		return ret;
	}
	return init_ret;
}

static void __exit klp_target_mod_exit(void)
{
	if (klp_busy_task) {
		klp_busy_release();
		kthread_stop(klp_busy_task);
	}
	pr_info("exit sees: %s\n", klp_target_f());
	kobject_put(klp_target_kobj);
}

module_init(klp_target_mod_init);
module_exit(klp_target_mod_exit);
MODULE_DESCRIPTION("Livepatch test target: a module with functions f and g");
MODULE_LICENSE("GPL");
