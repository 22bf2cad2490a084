// SPDX-License-Identifier: GPL-2.0-only
/*
 * klp_test_shadow_race - threads that race for one shadow variable. No livepatch.
 *
 * init has KLP_THREADS kthreads call klp_shadow_get_or_alloc() of the same object
 * and id at the same time, for a new object in each of KLP_ROUNDS rounds, and frees
 * the variables by klp_shadow_free_all(). It logs "race rounds=N constructors=N
 * same=N destructors=N": how often the constructor ran, in how many rounds all
 * threads got the same data, how often the destructor ran.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/atomic.h>
#include <linux/completion.h>
#include <linux/kernel.h>
#include <linux/kthread.h>
#include <linux/livepatch.h>
#include <linux/module.h>
#include <linux/sched.h>

#include "klp_compat.h"
#include "klp_kthread.h"

#define KLP_ID		0x6b6c7052UL
#define KLP_THREADS	4
#define KLP_ROUNDS	200

static int klp_objs[KLP_ROUNDS];	/* what the variables are attached to */
static void *klp_got[KLP_ROUNDS][KLP_THREADS];

static atomic_t klp_ctor_calls = ATOMIC_INIT(0);
static unsigned int klp_dtor_calls;
static atomic_t klp_arrived[KLP_ROUNDS];
static atomic_t klp_running = ATOMIC_INIT(KLP_THREADS);
static DECLARE_COMPLETION(klp_done);

static int klp_ctor(void *obj, void *shadow_data, void *ctor_data)
{
	atomic_inc(&klp_ctor_calls);
	return 0;
}

static void klp_dtor(void *obj, void *shadow_data)
{
	klp_dtor_calls++;
}

static int klp_race_thread(void *data)
{
	unsigned long me = (unsigned long)data;
	unsigned int round;

	for (round = 0; round < KLP_ROUNDS; round++) {
		/* All continue when the last one has arrived. */
		atomic_inc(&klp_arrived[round]);
		while (atomic_read(&klp_arrived[round]) < KLP_THREADS)
			cond_resched();
		klp_got[round][me] = klp_shadow_get_or_alloc(&klp_objs[round], KLP_ID, sizeof(long),
							     GFP_KERNEL, klp_ctor, NULL);
	}
	if (atomic_dec_and_test(&klp_running))
		complete(&klp_done);
	klp_kthread_wait_for_stop();
	return 0;
}

static bool klp_all_same(unsigned int round)
{
	unsigned int i;

	for (i = 0; i < KLP_THREADS; i++)
		if (!klp_got[round][i] || klp_got[round][i] != klp_got[round][0])
			return false;
	return true;
}

static int __init klp_test_shadow_race_init(void)
{
	struct task_struct *threads[KLP_THREADS];
	unsigned int i, same = 0;
	int ret = 0;

	/* All or none: the others would wait forever for a missing one. */
	for (i = 0; i < KLP_THREADS; i++) {
		threads[i] = kthread_create(klp_race_thread, (void *)(unsigned long)i,
					    "klp_race/%u", i);
		if (IS_ERR(threads[i])) {
			ret = PTR_ERR(threads[i]);
			goto stop;
		}
	}
	for (i = 0; i < KLP_THREADS; i++)
		wake_up_process(threads[i]);
	wait_for_completion(&klp_done);

	for (i = 0; i < KLP_ROUNDS; i++)
		same += klp_all_same(i);
	klp_shadow_free_all(KLP_ID, klp_dtor);
	pr_info("race rounds=%u constructors=%d same=%u destructors=%u\n", KLP_ROUNDS,
		atomic_read(&klp_ctor_calls), same, klp_dtor_calls);
	i = KLP_THREADS;
stop:
	while (i--)
		kthread_stop(threads[i]);
	return ret;
}

static void __exit klp_test_shadow_race_exit(void)
{
}

module_init(klp_test_shadow_race_init);
module_exit(klp_test_shadow_race_exit);
MODULE_DESCRIPTION("Livepatch test: threads that race for one shadow variable");
MODULE_LICENSE("GPL");
