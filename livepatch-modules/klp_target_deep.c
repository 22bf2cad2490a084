// SPDX-License-Identifier: GPL-2.0-only
/*
 * klp_target_deep - a task that sleeps below many stack frames.
 *
 * Reading /sys/kernel/klp_deep/sleep calls klp_target_deep() so many times, each
 * from the one before, as the parameter says; the last call sleeps in gate 5. The
 * reader gets the number of calls that have returned. /sys/kernel/klp_deep/other is
 * the same by another function, other_show() and not sleep_show().
 *
 * klp_target_gate has to be loaded first.
 *
 * Parameters: depth, the number of calls (at most 200); watch, look at the checks
 * of the reader's stack; frames, what the last of them found: so many, or an error.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/kernel.h>
#include <linux/kobject.h>
#include <linux/kprobes.h>
#include <linux/minmax.h>
#include <linux/module.h>
#include <linux/ptrace.h>
#include <linux/sched.h>
#include <linux/sysfs.h>

#include "klp_compat.h"
#include "klp_gate.h"

#define KLP_DEEP_GATE	5
#define KLP_DEEP_MOST	200	/* a few kB of stack */

static unsigned int depth = 1;
module_param(depth, uint, 0644);
MODULE_PARM_DESC(depth, "How many calls are on the stack (default 1)");

static bool watch;
module_param(watch, bool, 0444);
MODULE_PARM_DESC(watch, "Look at the checks of the reader's stack (default off)");

static int frames;
module_param(frames, int, 0444);
MODULE_PARM_DESC(frames, "What the last check found: so many frames, or an error");

static struct kobject *klp_deep_kobj;
static struct task_struct *klp_deep_reader;

static int klp_check_entry(struct kretprobe_instance *instance, struct pt_regs *regs)
{
	/* Not 0: nobody waits for the end of this call. */
	return regs_get_kernel_argument(regs, 0) != (unsigned long)READ_ONCE(klp_deep_reader);
}

static int klp_check_return(struct kretprobe_instance *instance, struct pt_regs *regs)
{
	WRITE_ONCE(frames, (int)regs_return_value(regs));
	return 0;
}

static struct kretprobe klp_deep_check = {
	.kp.symbol_name = "stack_trace_save_tsk_reliable",
	.entry_handler = klp_check_entry,
	.handler = klp_check_return,
};

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

static ssize_t klp_deep_sleep(char *buf)
{
	unsigned int calls = min_t(unsigned int, READ_ONCE(depth), KLP_DEEP_MOST);
	unsigned int returned;

	WRITE_ONCE(klp_deep_reader, current);
	returned = klp_target_deep(calls);
	WRITE_ONCE(klp_deep_reader, NULL);
	return sysfs_emit(buf, "%u\n", returned);
}

static __klp_noipa ssize_t sleep_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	ssize_t len = klp_deep_sleep(buf);

	barrier();
	return len;
}

static __klp_noipa ssize_t other_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	ssize_t len = klp_deep_sleep(buf);

	barrier();
	return len;
}

static struct kobj_attribute klp_sleep_attr = __ATTR_RO(sleep);
static struct kobj_attribute klp_other_attr = __ATTR_RO(other);

static int __init klp_target_deep_init(void)
{
	int ret;

	klp_deep_kobj = kobject_create_and_add("klp_deep", kernel_kobj);
	if (!klp_deep_kobj)
		return -ENOMEM;
	ret = sysfs_create_file(klp_deep_kobj, &klp_sleep_attr.attr) ?:
	      sysfs_create_file(klp_deep_kobj, &klp_other_attr.attr);
	if (!ret && watch)
		ret = register_kretprobe(&klp_deep_check);
	if (ret)
		kobject_put(klp_deep_kobj);
	return ret;
}

static void __exit klp_target_deep_exit(void)
{
	if (watch)
		unregister_kretprobe(&klp_deep_check);
	kobject_put(klp_deep_kobj);
}

module_init(klp_target_deep_init);
module_exit(klp_target_deep_exit);
MODULE_DESCRIPTION("Livepatch test target: a deep stack");
MODULE_LICENSE("GPL");
