// SPDX-License-Identifier: GPL-2.0-only
/*
 * klp_target_nap - a kthread that only wake-ups get out of a function.
 *
 * init starts the kthread "klp_target_nap" and returns when that is inside
 * klp_target_nap(). There it sleeps interruptibly, and logs "nap N ended" each
 * time it is woken. Then it sleeps elsewhere until the module goes.
 *
 * Parameter: naps, how many wake-ups it takes (default 1).
 *
 * Serves SG-02, SG-03.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/completion.h>
#include <linux/kernel.h>
#include <linux/kthread.h>
#include <linux/module.h>
#include <linux/sched.h>

#include "klp_compat.h"

static unsigned int naps = 1;
module_param(naps, uint, 0444);
MODULE_PARM_DESC(naps, "How many wake-ups end klp_target_nap() (default 1)");

static DECLARE_COMPLETION(klp_nap_entered);
static struct task_struct *klp_nap_task;

static __klp_noipa const char *klp_target_nap(void)
{
	unsigned int n;

	for (n = 0; n < naps; n++) {
		set_current_state(TASK_INTERRUPTIBLE);
		if (kthread_should_stop())
			break;
		complete(&klp_nap_entered);
		schedule();
		pr_info("nap %u ended\n", n + 1);
	}
	__set_current_state(TASK_RUNNING);
	return "nap original";
}

static int klp_nap_thread(void *unused)
{
	klp_target_nap();
	complete(&klp_nap_entered);

	for (;;) {
		set_current_state(TASK_IDLE);
		if (kthread_should_stop())
			break;
		schedule();
	}
	__set_current_state(TASK_RUNNING);
	return 0;
}

static int __init klp_target_nap_init(void)
{
	klp_nap_task = kthread_run(klp_nap_thread, NULL, "klp_target_nap");
	if (IS_ERR(klp_nap_task))
		return PTR_ERR(klp_nap_task);
	wait_for_completion(&klp_nap_entered);
	return 0;
}

static void __exit klp_target_nap_exit(void)
{
	kthread_stop(klp_nap_task);
}

module_init(klp_target_nap_init);
module_exit(klp_target_nap_exit);
MODULE_DESCRIPTION("Livepatch test target: a kthread that sleeps until it is woken");
MODULE_LICENSE("GPL");
