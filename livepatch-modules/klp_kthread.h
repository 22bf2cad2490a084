/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Kthreads of modules: one starts when its module is loaded, and must not
 * return before the module is unloaded.
 */

#ifndef KLP_KTHREAD_H
#define KLP_KTHREAD_H

#include <linux/completion.h>
#include <linux/err.h>
#include <linux/kthread.h>
#include <linux/sched.h>

/* Starts a kthread and waits until it completes @entered; sets @started or returns an error. */
static inline int klp_kthread_start(struct task_struct **started, int (*run)(void *),
				    const char *name, struct completion *entered)
{
	struct task_struct *task = kthread_run(run, NULL, "%s", name);

	if (IS_ERR(task))
		return PTR_ERR(task);
	*started = task;
	wait_for_completion(entered);
	return 0;
}

/* Sleeps until kthread_stop(): the rest of a kthread that has done its work. */
static inline void klp_kthread_wait_for_stop(void)
{
	for (;;) {
		set_current_state(TASK_IDLE);
		if (kthread_should_stop())
			break;
		schedule();
	}
	__set_current_state(TASK_RUNNING);
}

#endif /* KLP_KTHREAD_H */
