// SPDX-License-Identifier: GPL-2.0-only
/*
 * klp_target_ticks - a function that interrupts call, and a task that spins on a CPU.
 *
 * A kthread has every CPU call klp_tick() every few milliseconds; all CPUs but
 * its own do so in an interrupt. The parameter ticking=0 turns that off.
 * /sys/kernel/klp_ticks/ has
 *
 *	original	how often the original function ran; some calls may be lost
 *	spin		write 1: the writer spins in the kernel with preemption off,
 *			until 0 is written or KLP_SPIN_S have passed; reads as 1
 *			while a task spins
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/delay.h>
#include <linux/jiffies.h>
#include <linux/kernel.h>
#include <linux/kobject.h>
#include <linux/kthread.h>
#include <linux/ktime.h>
#include <linux/math64.h>
#include <linux/minmax.h>
#include <linux/module.h>
#include <linux/nmi.h>
#include <linux/preempt.h>
#include <linux/smp.h>
#include <linux/sysfs.h>

#include "klp_compat.h"

#define KLP_TICK_US	4000
#define KLP_REST_US	500000
#define KLP_SPIN_S	60

static bool ticking = true;
module_param(ticking, bool, 0444);
MODULE_PARM_DESC(ticking, "Let interrupts call klp_tick() (default on)");

static struct kobject *klp_ticks_kobj;
static struct task_struct *klp_ticks_task;
static unsigned long klp_ticks_original;
static bool klp_spin_wanted, klp_spinning;

static __klp_noipa void klp_tick(void)
{
	WRITE_ONCE(klp_ticks_original, READ_ONCE(klp_ticks_original) + 1);
}

static void klp_tick_handler(void *unused)
{
	klp_tick();
}

static int klp_ticks_thread(void *unused)
{
	while (!kthread_should_stop()) {
		u64 start = ktime_get_ns();
		u64 took_us, rest_us;

		on_each_cpu(klp_tick_handler, NULL, 1);
		/*
		 * On a busy host this takes long, and a task that hardly ever
		 * sleeps is never switched.
		 */
		took_us = div_u64(ktime_get_ns() - start, NSEC_PER_USEC);
		rest_us = clamp_t(u64, 10 * took_us, KLP_TICK_US, KLP_REST_US);
		usleep_range(rest_us, 2 * rest_us);
	}
	return 0;
}

static ssize_t original_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%lu\n", READ_ONCE(klp_ticks_original));
}

static struct kobj_attribute klp_original_attr = __ATTR_RO(original);

static ssize_t spin_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%d\n", READ_ONCE(klp_spinning));
}

static void klp_spin(void)
{
	unsigned long end = jiffies + KLP_SPIN_S * HZ;	/* another CPU updates jiffies */

	preempt_disable();
	WRITE_ONCE(klp_spinning, true);
	while (READ_ONCE(klp_spin_wanted) && time_before(jiffies, end)) {
		touch_softlockup_watchdog();
		/* No cpu_relax(): emulated CPUs that alternate in it keep QEMU's global lock. */
		barrier();
	}
	WRITE_ONCE(klp_spinning, false);
	preempt_enable();
}

static ssize_t spin_store(struct kobject *kobj, struct kobj_attribute *attr, const char *buf,
			  size_t count)
{
	bool wanted;
	int ret;

	ret = kstrtobool(buf, &wanted);
	if (ret)
		return ret;
	WRITE_ONCE(klp_spin_wanted, wanted);
	if (wanted)
		klp_spin();
	return count;
}

static struct kobj_attribute klp_spin_attr = __ATTR_RW(spin);

static struct attribute *klp_ticks_attrs[] = {
	&klp_original_attr.attr,
	&klp_spin_attr.attr,
	NULL
};

static const struct attribute_group klp_ticks_group = {
	.attrs = klp_ticks_attrs,
};

static int __init klp_target_ticks_init(void)
{
	int ret;

	klp_ticks_kobj = kobject_create_and_add("klp_ticks", kernel_kobj);
	if (!klp_ticks_kobj)
		return -ENOMEM;
	ret = sysfs_create_group(klp_ticks_kobj, &klp_ticks_group);
	if (ret)
		goto put;
	if (!ticking)
		return 0;
	klp_ticks_task = kthread_run(klp_ticks_thread, NULL, "klp_ticks");
	if (IS_ERR(klp_ticks_task)) {
		ret = PTR_ERR(klp_ticks_task);
		goto put;
	}
	return 0;
put:
	kobject_put(klp_ticks_kobj);
	return ret;
}

static void __exit klp_target_ticks_exit(void)
{
	if (ticking)
		kthread_stop(klp_ticks_task);
	kobject_put(klp_ticks_kobj);
}

module_init(klp_target_ticks_init);
module_exit(klp_target_ticks_exit);
MODULE_DESCRIPTION("Livepatch test target: a function that interrupts call");
MODULE_LICENSE("GPL");
