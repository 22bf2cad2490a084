// SPDX-License-Identifier: GPL-2.0-only
/*
 * klp_target_loop - a kthread that never sleeps and calls cond_resched() all the time.
 *
 * init starts the kthread "klp_target_loop" and returns when it loops. The log has
 * "switched by itself" when the patch state of the thread changed from 0 to 1
 * while it stayed on its CPU, and "switched off the CPU" when it was scheduled out
 * meanwhile. Writing 1 to the parameter stop ends the loop; the thread then sleeps
 * until the module is unloaded.
 *
 * Parameters:
 *	inside	it loops inside klp_target_loop(), otherwise after it has returned
 *	stop	ends the loop
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/completion.h>
#include <linux/kernel.h>
#include <linux/kthread.h>
#include <linux/livepatch.h>
#include <linux/module.h>
#include <linux/sched.h>

#include "klp_compat.h"
#include "klp_kthread.h"

/* As in /proc/PID/patch_state. */
#define KLP_LOOP_UNPATCHED	0
#define KLP_LOOP_PATCHED	1

static bool inside;
module_param(inside, bool, 0444);
MODULE_PARM_DESC(inside, "Loop inside klp_target_loop() (default off: after it)");

static bool stop;
module_param(stop, bool, 0644);
MODULE_PARM_DESC(stop, "End the loop");

static DECLARE_COMPLETION(klp_loop_entered);
static struct task_struct *klp_loop_task;

static unsigned long klp_loop_switches(void)
{
	return READ_ONCE(current->nvcsw) + READ_ONCE(current->nivcsw);
}

static noinline void klp_loop(void)
{
	unsigned long switches = klp_loop_switches(), last_switches;
	int state = READ_ONCE(current->patch_state), last_state;

	complete(&klp_loop_entered);
	while (!READ_ONCE(stop) && !kthread_should_stop()) {
		cond_resched();
		last_state = state;
		last_switches = switches;
		state = READ_ONCE(current->patch_state);
		switches = klp_loop_switches();
		/* From -1 to 1: a transition to unpatched has started. */
		if (last_state != KLP_LOOP_UNPATCHED || state != KLP_LOOP_PATCHED)
			continue;
		pr_info("switched %s\n", switches == last_switches ? "by itself" : "off the CPU");
	}
}

/* barrier(): a tail call would leave no stack frame. */
static __klp_noipa const char *klp_target_loop(void)
{
	if (inside)
		klp_loop();
	barrier();
	return klp_opaque("loop original");
}

static int klp_loop_thread(void *unused)
{
	klp_target_loop();
	if (!inside)
		klp_loop();
	klp_kthread_wait_for_stop();
	return 0;
}

static int __init klp_target_loop_init(void)
{
	return klp_kthread_start(&klp_loop_task, klp_loop_thread, "klp_target_loop",
				 &klp_loop_entered);
}

static void __exit klp_target_loop_exit(void)
{
	kthread_stop(klp_loop_task);
}

module_init(klp_target_loop_init);
module_exit(klp_target_loop_exit);
MODULE_DESCRIPTION("Livepatch test target: a kthread that never sleeps");
MODULE_LICENSE("GPL");
