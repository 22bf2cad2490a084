// SPDX-License-Identifier: GPL-2.0-only
/*
 * klp_target_irq - which body of a function does an interrupt handler run?
 *
 * init starts the kthread "klp_target_irq" on CPU 1, which loops in cond_resched()
 * inside klp_irq_loop() until 1 is written to the parameter stop. A patch of that
 * function keeps the thread in its old state while it runs.
 *
 * /sys/kernel/klp_irq/handlers interrupts each CPU, and has a line for each
 * handler: "CPU TID STATE TEXT", with the task that was interrupted, its patch
 * state, and what klp_irq_text() returned in the handler.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/completion.h>
#include <linux/cpu.h>
#include <linux/err.h>
#include <linux/irq_work.h>
#include <linux/kernel.h>
#include <linux/kobject.h>
#include <linux/kthread.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/percpu.h>
#include <linux/sched.h>
#include <linux/smp.h>
#include <linux/sysfs.h>

#include "klp_compat.h"
#include "klp_kthread.h"

#define KLP_IRQ_CPU	1	/* of the thread */

static bool stop;
module_param(stop, bool, 0644);
MODULE_PARM_DESC(stop, "End the loop");

/* What a handler has found on its CPU. */
struct klp_irq_seen {
	struct irq_work work;
	pid_t tid;
	int state;
	const char *text;
};

static DEFINE_PER_CPU(struct klp_irq_seen, klp_irq_seen);
static DEFINE_MUTEX(klp_irq_lock);	/* protects klp_irq_seen */

static DECLARE_COMPLETION(klp_irq_entered);
static struct task_struct *klp_irq_task;
static struct kobject *klp_irq_kobj;

static __klp_noipa const char *klp_irq_text(void)
{
	return klp_opaque("original");
}

static void klp_irq_handler(struct irq_work *work)
{
	struct klp_irq_seen *seen = container_of(work, struct klp_irq_seen, work);

	seen->tid = task_pid_nr(current);
	seen->state = current->patch_state;
	seen->text = klp_irq_text();
}

/* Of its own CPU this is called by the task: only the work is always in an interrupt. */
static void klp_irq_interrupt(void *unused)
{
	irq_work_queue(this_cpu_ptr(&klp_irq_seen.work));
}

static ssize_t handlers_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	struct klp_irq_seen *seen;
	ssize_t len = 0;
	int cpu;

	mutex_lock(&klp_irq_lock);
	cpus_read_lock();
	for_each_online_cpu(cpu) {
		seen = per_cpu_ptr(&klp_irq_seen, cpu);
		if (smp_call_function_single(cpu, klp_irq_interrupt, NULL, 1))
			continue;
		irq_work_sync(&seen->work);
		len += sysfs_emit_at(buf, len, "%d %d %d %s\n", cpu, seen->tid, seen->state,
				     seen->text);
	}
	cpus_read_unlock();
	mutex_unlock(&klp_irq_lock);
	return len;
}

static struct kobj_attribute klp_handlers_attr = __ATTR_RO(handlers);

/* barrier(): a tail call would leave no stack frame. */
static __klp_noipa const char *klp_irq_loop(void)
{
	complete(&klp_irq_entered);
	while (!READ_ONCE(stop) && !kthread_should_stop())
		cond_resched();
	barrier();
	return klp_opaque("original");
}

static int klp_irq_thread(void *unused)
{
	klp_irq_loop();
	klp_kthread_wait_for_stop();
	return 0;
}

static int __init klp_target_irq_init(void)
{
	int cpu, ret;

	if (!cpu_online(KLP_IRQ_CPU))
		return -ENODEV;
	for_each_possible_cpu(cpu)
		klp_init_hard_irq_work(&per_cpu_ptr(&klp_irq_seen, cpu)->work, klp_irq_handler);

	klp_irq_kobj = kobject_create_and_add("klp_irq", kernel_kobj);
	if (!klp_irq_kobj)
		return -ENOMEM;
	ret = sysfs_create_file(klp_irq_kobj, &klp_handlers_attr.attr);
	if (ret)
		goto put;
	klp_irq_task = kthread_create(klp_irq_thread, NULL, "klp_target_irq");
	if (IS_ERR(klp_irq_task)) {
		ret = PTR_ERR(klp_irq_task);
		goto put;
	}
	kthread_bind(klp_irq_task, KLP_IRQ_CPU);
	wake_up_process(klp_irq_task);
	wait_for_completion(&klp_irq_entered);
	return 0;
put:
	kobject_put(klp_irq_kobj);
	return ret;
}

static void __exit klp_target_irq_exit(void)
{
	kthread_stop(klp_irq_task);
	kobject_put(klp_irq_kobj);
}

module_init(klp_target_irq_init);
module_exit(klp_target_irq_exit);
MODULE_DESCRIPTION("Livepatch test target: a function that interrupt handlers call");
MODULE_LICENSE("GPL");
