// SPDX-License-Identifier: GPL-2.0-only
/*
 * klp_target_nap - a kthread that leaves a function only when it is woken.
 *
 * init starts the kthread "klp_target_nap" and returns when it is inside
 * klp_target_nap(). There it sleeps interruptibly, and logs "nap N ended" each
 * time it is woken. Then it sleeps elsewhere until the module is unloaded.
 *
 * Parameter: naps, how many wake-ups end klp_target_nap() (default 1).
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/completion.h>
#include <linux/kernel.h>
#include <linux/kthread.h>
#include <linux/module.h>
#include <linux/sched.h>

#include "klp_compat.h"
#include "klp_kthread.h"

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
	return klp_opaque("nap original");
}

static int klp_nap_thread(void *unused)
{
	klp_target_nap();
	complete(&klp_nap_entered);
	klp_kthread_wait_for_stop();
	return 0;
}

static int __init klp_target_nap_init(void)
{
	return klp_kthread_start(&klp_nap_task, klp_nap_thread, "klp_target_nap",
				 &klp_nap_entered);
}

static void __exit klp_target_nap_exit(void)
{
	kthread_stop(klp_nap_task);
}

module_init(klp_target_nap_init);
module_exit(klp_target_nap_exit);
MODULE_DESCRIPTION("Livepatch test target: a kthread that sleeps until it is woken");
MODULE_LICENSE("GPL");
