// SPDX-License-Identifier: GPL-2.0-only
/*
 * klp_test_shadow_lock - shadow variables that are used while a constructor runs. No livepatch.
 *
 * A kthread attaches a shadow variable three times. Its constructor, which runs with
 * the lock of the shadow variables, waits until a kthread on another CPU has begun to
 * attach one, to free one, and to free all of an id. It then stays for KLP_STAY_MS.
 *
 * init logs "lock begun=N alloc=N free=N free_all=N": how often the other one has
 * begun meanwhile, and which of its calls returned during the constructor (1) and
 * not after it (0). It takes two CPUs.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/completion.h>
#include <linux/err.h>
#include <linux/kernel.h>
#include <linux/kthread.h>
#include <linux/livepatch.h>
#include <linux/module.h>
#include <linux/sched.h>
#include <linux/timekeeping.h>

#include "klp_kthread.h"

#define KLP_ID		0x6b6c704cUL
#define KLP_OTHER_ID	0x6b6c704dUL
#define KLP_BEGIN_MS	10000ULL
#define KLP_STAY_MS	300ULL

enum { KLP_ALLOC, KLP_FREE, KLP_FREE_ALL, KLP_CALLS };

static int klp_objs[KLP_CALLS];		/* what the variables are attached to */
static int klp_other_obj;

/* The number of the call, from 1: whose constructor runs, what has begun, what has returned. */
static unsigned int klp_in_ctor, klp_begun, klp_returned;
static unsigned int klp_begun_inside, klp_returned_inside[KLP_CALLS];
static DECLARE_COMPLETION(klp_ctor_done);
static DECLARE_COMPLETION(klp_other_done);

static bool klp_spin(unsigned int *number, unsigned int wanted, u64 ms)
{
	u64 end = ktime_get_mono_fast_ns() + ms * NSEC_PER_MSEC;

	while (READ_ONCE(*number) < wanted) {
		if (ktime_get_mono_fast_ns() > end)
			return false;
		cpu_relax();
	}
	return true;
}

static int klp_ctor(void *obj, void *shadow_data, void *ctor_data)
{
	unsigned int call = (int *)obj - klp_objs;

	WRITE_ONCE(klp_in_ctor, call + 1);
	if (!klp_spin(&klp_begun, call + 1, KLP_BEGIN_MS))
		return 0;
	klp_begun_inside++;
	klp_returned_inside[call] = klp_spin(&klp_returned, call + 1, KLP_STAY_MS);
	return 0;
}

static int klp_ctor_thread(void *data)
{
	unsigned int call;

	for (call = 0; call < KLP_CALLS; call++) {
		klp_shadow_alloc(&klp_objs[call], KLP_ID, sizeof(long), GFP_KERNEL, klp_ctor, NULL);
		/* The other one is ready for the next. */
		while (READ_ONCE(klp_returned) < call + 1)
			cond_resched();
	}
	complete(&klp_ctor_done);
	klp_kthread_wait_for_stop();
	return 0;
}

static int klp_other_thread(void *data)
{
	unsigned int call;

	for (call = 0; call < KLP_CALLS; call++) {
		while (READ_ONCE(klp_in_ctor) < call + 1)
			cond_resched();
		WRITE_ONCE(klp_begun, call + 1);
		if (call == KLP_ALLOC)
			klp_shadow_alloc(&klp_other_obj, KLP_OTHER_ID, sizeof(long), GFP_KERNEL,
					 NULL, NULL);
		else if (call == KLP_FREE)
			klp_shadow_free(&klp_other_obj, KLP_OTHER_ID, NULL);
		else
			klp_shadow_free_all(KLP_OTHER_ID, NULL);
		WRITE_ONCE(klp_returned, call + 1);
	}
	complete(&klp_other_done);
	klp_kthread_wait_for_stop();
	return 0;
}

static int __init klp_test_shadow_lock_init(void)
{
	struct task_struct *ctor, *other;

	if (num_online_cpus() < 2)
		return -ENODEV;
	ctor = kthread_create(klp_ctor_thread, NULL, "klp_shadow_ctor");
	if (IS_ERR(ctor))
		return PTR_ERR(ctor);
	other = kthread_create(klp_other_thread, NULL, "klp_shadow_other");
	if (IS_ERR(other)) {
		kthread_stop(ctor);
		return PTR_ERR(other);
	}
	kthread_bind(ctor, 0);
	kthread_bind(other, 1);
	wake_up_process(other);
	wake_up_process(ctor);
	wait_for_completion(&klp_ctor_done);
	wait_for_completion(&klp_other_done);
	kthread_stop(ctor);
	kthread_stop(other);
	klp_shadow_free_all(KLP_ID, NULL);
	pr_info("lock begun=%u alloc=%u free=%u free_all=%u\n", klp_begun_inside,
		klp_returned_inside[KLP_ALLOC], klp_returned_inside[KLP_FREE],
		klp_returned_inside[KLP_FREE_ALL]);
	return 0;
}

static void __exit klp_test_shadow_lock_exit(void)
{
}

module_init(klp_test_shadow_lock_init);
module_exit(klp_test_shadow_lock_exit);
MODULE_DESCRIPTION("Livepatch test: shadow variables that are used while a constructor runs");
MODULE_LICENSE("GPL");
