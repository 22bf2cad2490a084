// SPDX-License-Identifier: GPL-2.0-only
/*
 * klp_target_idle - a kthread that injects idle time inside a function.
 *
 * A read of /sys/kernel/klp_idle/call starts a kthread "klp_idle", which calls
 * klp_idle_outer() once, and shows "outer VERSION inner VERSION". The outer
 * function calls klp_idle_inject() and then klp_idle_inner(). klp_idle_inject()
 * sleeps in gate 5, injects some milliseconds of idle time with
 * play_idle_precise(), and sleeps in gate 6.
 *
 * The kthread runs on the last CPU. klp_target_gate has to be loaded first.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/completion.h>
#include <linux/cpu.h>
#include <linux/cpumask.h>
#include <linux/kernel.h>
#include <linux/kobject.h>
#include <linux/kthread.h>
#include <linux/limits.h>
#include <linux/module.h>
#include <linux/sched.h>
#include <linux/sysfs.h>
#include <linux/time64.h>

#include "klp_compat.h"
#include "klp_gate.h"
#include "klp_idle.h"
#include "klp_kthread.h"

#define KLP_BEFORE_GATE	5
#define KLP_AFTER_GATE	6
#define KLP_INJECTED_NS	(5 * NSEC_PER_MSEC)

static struct kobject *klp_idle_kobj;

/* What a reader gives to its kthread; lives on the reader's stack. */
struct klp_idle_work {
	struct klp_idle_call call;
	struct completion done;
};

/**
 * klp_idle_inject - inject idle time, between two gates
 */
noinline void klp_idle_inject(void)
{
	klp_gate_sleep(KLP_BEFORE_GATE);
	play_idle_precise(KLP_INJECTED_NS, U64_MAX);
	klp_gate_sleep(KLP_AFTER_GATE);
	barrier();
}
EXPORT_SYMBOL_GPL(klp_idle_inject);

/**
 * klp_idle_inner - the function that klp_idle_outer() calls
 * @call: the call
 */
__klp_noipa void klp_idle_inner(struct klp_idle_call *call)
{
	call->inner = "original";
}
EXPORT_SYMBOL_GPL(klp_idle_inner);

static __klp_noipa void klp_idle_outer(struct klp_idle_call *call)
{
	call->outer = "original";
	klp_idle_inject();
	klp_idle_inner(call);
	barrier();
}

static int klp_idle_thread(void *data)
{
	struct klp_idle_work *work = data;

	klp_idle_outer(&work->call);
	complete(&work->done);
	klp_kthread_wait_for_stop();
	return 0;
}

static ssize_t call_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	struct klp_idle_work work = { };
	struct task_struct *task;

	init_completion(&work.done);
	task = kthread_create(klp_idle_thread, &work, "klp_idle");
	if (IS_ERR(task))
		return PTR_ERR(task);
	/* Only such a thread may inject idle time. */
	kthread_bind(task, cpumask_last(cpu_online_mask));
	sched_set_fifo(task);
	wake_up_process(task);
	wait_for_completion(&work.done);
	kthread_stop(task);
	return sysfs_emit(buf, "outer %s inner %s\n", work.call.outer, work.call.inner);
}

static struct kobj_attribute klp_call_attr = __ATTR_RO(call);

static int __init klp_target_idle_init(void)
{
	int ret;

	klp_idle_kobj = kobject_create_and_add("klp_idle", kernel_kobj);
	if (!klp_idle_kobj)
		return -ENOMEM;
	ret = sysfs_create_file(klp_idle_kobj, &klp_call_attr.attr);
	if (ret)
		kobject_put(klp_idle_kobj);
	return ret;
}

static void __exit klp_target_idle_exit(void)
{
	kobject_put(klp_idle_kobj);
}

module_init(klp_target_idle_init);
module_exit(klp_target_idle_exit);
MODULE_DESCRIPTION("Livepatch test target: a function that injects idle time");
MODULE_LICENSE("GPL");
