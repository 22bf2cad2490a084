// SPDX-License-Identifier: GPL-2.0-only
/*
 * klp_test_preempt - has a task preempted at the entry of a function. No livepatch.
 *
 * A kprobe there wakes the task that reads /sys/kernel/klp_preempt/wait, once. If
 * that task runs on the same CPU, with a higher priority, it takes the CPU when
 * the handlers that ftrace calls for the function have all returned: before the
 * first instruction of the function, or of the new one of a livepatch.
 *
 * Parameter: function, the one to probe.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/completion.h>
#include <linux/kernel.h>
#include <linux/kobject.h>
#include <linux/kprobes.h>
#include <linux/module.h>
#include <linux/sysfs.h>

static char *function = "";
module_param(function, charp, 0444);
MODULE_PARM_DESC(function, "Function to be probed");

static struct kobject *klp_preempt_kobj;
static DECLARE_COMPLETION(klp_preempt_called);

static int klp_preempt_pre(struct kprobe *p, struct pt_regs *regs)
{
	complete(&klp_preempt_called);
	return 0;
}

static struct kprobe klp_preempt_kprobe = {
	.pre_handler = klp_preempt_pre,
};

static ssize_t wait_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	int ret;

	ret = wait_for_completion_interruptible(&klp_preempt_called);
	if (ret)
		return ret;
	return sysfs_emit(buf, "called\n");
}

static struct kobj_attribute klp_wait_attr = __ATTR_RO(wait);

static int __init klp_test_preempt_init(void)
{
	int ret;

	klp_preempt_kobj = kobject_create_and_add("klp_preempt", kernel_kobj);
	if (!klp_preempt_kobj)
		return -ENOMEM;
	ret = sysfs_create_file(klp_preempt_kobj, &klp_wait_attr.attr);
	if (ret)
		goto put;
	klp_preempt_kprobe.symbol_name = function;
	ret = register_kprobe(&klp_preempt_kprobe);
	if (ret)
		goto put;
	return 0;
put:
	kobject_put(klp_preempt_kobj);
	return ret;
}

static void __exit klp_test_preempt_exit(void)
{
	unregister_kprobe(&klp_preempt_kprobe);
	kobject_put(klp_preempt_kobj);
}

module_init(klp_test_preempt_init);
module_exit(klp_test_preempt_exit);
MODULE_DESCRIPTION("Livepatch test: a task that is preempted at the entry of a function");
MODULE_LICENSE("GPL");
