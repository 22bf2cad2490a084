// SPDX-License-Identifier: GPL-2.0-only
/*
 * klp_retry - has the kernel try at once to complete a transition.
 *
 * The kernel tries once a second, by a delayed work. A write to the parameter
 * "now" ends its delay, on the CPU on which its timer would have. If it does not
 * wait for its time, nothing is done.
 *
 * And once disabling a livepatch was forced, the kernel keeps it loaded for ever.
 * A write of the address of a module to the parameter "release" lets go of it.
 *
 * Parameter: work, the address of klp_transition_work.
 */

#include <linux/kernel.h>
#include <linux/module.h>
#include <linux/workqueue.h>

static unsigned long work;
module_param(work, ulong, 0444);
MODULE_PARM_DESC(work, "The address of klp_transition_work");

static int klp_retry_set(const char *value, const struct kernel_param *param)
{
	struct delayed_work *retry = (struct delayed_work *)work;
	int cpu = retry->timer.flags & TIMER_CPUMASK;

	if (cancel_delayed_work(retry))
		schedule_delayed_work_on(cpu, retry, 0);
	return 0;
}

static const struct kernel_param_ops klp_retry_ops = { .set = klp_retry_set };
module_param_cb(now, &klp_retry_ops, NULL, 0200);
MODULE_PARM_DESC(now, "Written to: try now");

static int klp_retry_release(const char *value, const struct kernel_param *param)
{
	unsigned long module;
	int ret = kstrtoul(value, 0, &module);

	if (!ret)
		module_put((struct module *)module);
	return ret;
}

static const struct kernel_param_ops klp_retry_release_ops = { .set = klp_retry_release };
module_param_cb(release, &klp_retry_release_ops, NULL, 0200);
MODULE_PARM_DESC(release, "Written to: the address of the module that is let go of");

static int __init klp_retry_init(void)
{
	return work ? 0 : -EINVAL;
}

static void __exit klp_retry_exit(void)
{
}

module_init(klp_retry_init);
module_exit(klp_retry_exit);
MODULE_DESCRIPTION("Has the kernel try at once to complete a transition of livepatches");
MODULE_LICENSE("GPL");
