// SPDX-License-Identifier: GPL-2.0-only
/*
 * klp_target_pair - two functions that must change together: the first calls the second.
 *
 * klp_pair_f() pauses and then calls klp_pair_g(). The task is inside the first
 * all that time, so no call may run the old version of one and the new version of
 * the other. /sys/kernel/klp_pair/ has "nap", "spin" and "gate", which make one
 * call with that pause (klp_pair.h) and show "f VERSION g VERSION".
 *
 * Kthreads "klp_pair/N" make such calls continuously, with a nap. "kthreads" shows
 * how many of each kind they have made: "original N patched N mixed N". The log
 * has "mixed pair: f VERSION g VERSION in TID (COMM)" for each call that mixed them.
 *
 * Parameter: kthreads, how many (default 0).
 *
 * klp_target_gate has to be loaded first.
 *
 * checkpatch: ignore USLEEP_RANGE: this pause is to keep the CPU
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/atomic.h>
#include <linux/delay.h>
#include <linux/kernel.h>
#include <linux/kobject.h>
#include <linux/kthread.h>
#include <linux/module.h>
#include <linux/sched.h>
#include <linux/sysfs.h>

#include "klp_compat.h"
#include "klp_gate.h"
#include "klp_pair.h"

#define KLP_PAIR_GATE_NUMBER	5
#define KLP_PAIR_THREADS	8

static unsigned int kthreads;
module_param(kthreads, uint, 0444);
MODULE_PARM_DESC(kthreads, "How many kthreads call continuously (default 0, at most 8)");

static struct kobject *klp_pair_kobj;
static struct task_struct *klp_pair_tasks[KLP_PAIR_THREADS];
static atomic_t klp_pair_original, klp_pair_patched, klp_pair_mixed;

/**
 * klp_pair_pause - pause inside klp_pair_f()
 * @pair: the call
 */
noinline void klp_pair_pause(const struct klp_pair *pair)
{
	switch (pair->pause) {
	case KLP_PAIR_NAP:
		usleep_range(2000, 4000);
		break;
	case KLP_PAIR_SPIN:
		udelay(500);
		break;
	case KLP_PAIR_GATE:
		klp_gate_sleep(KLP_PAIR_GATE_NUMBER);
		break;
	}
}
EXPORT_SYMBOL_GPL(klp_pair_pause);

/**
 * klp_pair_g - the function that klp_pair_f() calls
 * @pair: the call
 */
__klp_noipa void klp_pair_g(struct klp_pair *pair)
{
	pair->g = "original";
}
EXPORT_SYMBOL_GPL(klp_pair_g);

/* barrier(): a tail call would leave no stack frame. */
static __klp_noipa void klp_pair_f(struct klp_pair *pair)
{
	pair->f = "original";
	klp_pair_pause(pair);
	klp_pair_g(pair);
	barrier();
}

static void klp_pair_call(struct klp_pair *pair)
{
	klp_pair_f(pair);
	if (!strcmp(pair->f, pair->g))
		return;
	pr_info("mixed pair: f %s g %s in %d (%s)\n", pair->f, pair->g, current->pid,
		current->comm);
}

static int klp_pair_thread(void *unused)
{
	struct klp_pair pair = { .pause = KLP_PAIR_NAP };

	while (!kthread_should_stop()) {
		klp_pair_call(&pair);
		if (strcmp(pair.f, pair.g))
			atomic_inc(&klp_pair_mixed);
		else if (!strcmp(pair.f, "original"))
			atomic_inc(&klp_pair_original);
		else
			atomic_inc(&klp_pair_patched);
		/* Long enough outside of klp_pair_f() for a retry of the transition to succeed. */
		usleep_range(4000, 8000);
	}
	return 0;
}

static ssize_t klp_pair_show(enum klp_pair_pause pause, char *buf)
{
	struct klp_pair pair = { .pause = pause };

	klp_pair_call(&pair);
	return sysfs_emit(buf, "f %s g %s\n", pair.f, pair.g);
}

static ssize_t nap_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	return klp_pair_show(KLP_PAIR_NAP, buf);
}

static struct kobj_attribute klp_nap_attr = __ATTR_RO(nap);

static ssize_t spin_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	return klp_pair_show(KLP_PAIR_SPIN, buf);
}

static struct kobj_attribute klp_spin_attr = __ATTR_RO(spin);

static ssize_t gate_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	return klp_pair_show(KLP_PAIR_GATE, buf);
}

static struct kobj_attribute klp_gate_attr = __ATTR_RO(gate);

static ssize_t kthreads_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "original %d patched %d mixed %d\n",
			  atomic_read(&klp_pair_original), atomic_read(&klp_pair_patched),
			  atomic_read(&klp_pair_mixed));
}

static struct kobj_attribute klp_kthreads_attr = __ATTR_RO(kthreads);

static struct attribute *klp_pair_attrs[] = {
	&klp_nap_attr.attr,
	&klp_spin_attr.attr,
	&klp_gate_attr.attr,
	&klp_kthreads_attr.attr,
	NULL
};

static const struct attribute_group klp_pair_group = {
	.attrs = klp_pair_attrs,
};

static void klp_pair_stop(void)
{
	unsigned int n;

	for (n = 0; n < KLP_PAIR_THREADS && klp_pair_tasks[n]; n++)
		kthread_stop(klp_pair_tasks[n]);
}

static int klp_pair_start(void)
{
	struct task_struct *task;
	unsigned int n;

	for (n = 0; n < kthreads; n++) {
		task = kthread_run(klp_pair_thread, NULL, "klp_pair/%u", n);
		if (IS_ERR(task)) {
			klp_pair_stop();
			return PTR_ERR(task);
		}
		klp_pair_tasks[n] = task;
	}
	return 0;
}

static int __init klp_target_pair_init(void)
{
	int ret;

	if (kthreads > KLP_PAIR_THREADS)
		return -EINVAL;
	klp_pair_kobj = kobject_create_and_add("klp_pair", kernel_kobj);
	if (!klp_pair_kobj)
		return -ENOMEM;
	ret = sysfs_create_group(klp_pair_kobj, &klp_pair_group);
	if (!ret)
		ret = klp_pair_start();
	if (ret)
		kobject_put(klp_pair_kobj);
	return ret;
}

static void __exit klp_target_pair_exit(void)
{
	klp_pair_stop();
	kobject_put(klp_pair_kobj);
}

module_init(klp_target_pair_init);
module_exit(klp_target_pair_exit);
MODULE_DESCRIPTION("Livepatch test target: two functions that change together");
MODULE_LICENSE("GPL");
