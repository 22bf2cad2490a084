// SPDX-License-Identifier: GPL-2.0-only
/*
 * The code of a target with a kthread that sleeps in corpus_turn() for
 * CORPUS_INSIDE_S seconds, then elsewhere for CORPUS_OUTSIDE_S, and so on.
 *
 *	CORPUS_INSIDE_S		0: until it is stopped
 *	CORPUS_STATE		the task state inside: TASK_IDLE, or TASK_INTERRUPTIBLE,
 *				which a wake-up ends
 */

#include <linux/completion.h>
#include <linux/jiffies.h>
#include <linux/kthread.h>
#include <linux/sched.h>

#include "corpus.h"

static struct task_struct *corpus_task;
static DECLARE_COMPLETION(corpus_entered);
static unsigned int corpus_turns;

static void corpus_sleep(unsigned int state, long seconds)
{
	long left = seconds ? seconds * HZ : MAX_SCHEDULE_TIMEOUT;

	do {
		set_current_state(state);
		if (kthread_should_stop())
			break;
		left = schedule_timeout(left);
	} while (left && state != TASK_INTERRUPTIBLE);
	__set_current_state(TASK_RUNNING);
}

static __corpus_noipa void corpus_turn(unsigned int *turns)
{
	complete(&corpus_entered);
	corpus_sleep(CORPUS_STATE, CORPUS_INSIDE_S);
	(*turns)++;
}

static int corpus_thread(void *unused)
{
	while (!kthread_should_stop()) {
		corpus_turn(&corpus_turns);
		corpus_sleep(TASK_IDLE, CORPUS_OUTSIDE_S);
	}
	return 0;
}

static int __init corpus_turns_init(void)
{
	corpus_task = kthread_run(corpus_thread, NULL, KBUILD_MODNAME);
	if (IS_ERR(corpus_task))
		return PTR_ERR(corpus_task);
	wait_for_completion(&corpus_entered);
	return 0;
}
module_init(corpus_turns_init);

static void __exit corpus_turns_exit(void)
{
	kthread_stop(corpus_task);
}
module_exit(corpus_turns_exit);

MODULE_DESCRIPTION("Livepatch corpus: a kthread that sleeps in a function");
MODULE_LICENSE("GPL");
