// SPDX-License-Identifier: GPL-2.0-only
/*
 * klp_test_shadow_race - threads that race for one shadow variable. No livepatch.
 *
 * init has KLP_THREADS kthreads call klp_shadow_get_or_alloc() of the same object
 * and id at the same time, for a new object in each of KLP_ROUNDS rounds, and frees
 * the variables by klp_shadow_free_all(). It logs "race rounds=N constructors=N
 * same=N destructors=N late=N": how often the constructor ran, in how many rounds
 * all threads got the same data, how often the destructor ran.
 *
 * With "allocator" the constructor returns when another thread has found no
 * variable, too, and allocates one: a kprobe sees it there. "late" is in how many
 * rounds that was so; there is an end to the wait, for another task may keep that
 * thread from its CPU. The constructor runs with the lock of the shadow variables:
 * the other thread finds the variable when it gets that, although an interrupt,
 * which the constructor has asked for, keeps this one for a while as soon as
 * interrupts are on again. It takes two CPUs.
 *
 * Parameter: allocator, the function that gives memory of any size: __kmalloc
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/atomic.h>
#include <linux/completion.h>
#include <linux/irq_work.h>
#include <linux/kernel.h>
#include <linux/kprobes.h>
#include <linux/kthread.h>
#include <linux/livepatch.h>
#include <linux/module.h>
#include <linux/sched.h>
#include <linux/timekeeping.h>

#include "klp_compat.h"
#include "klp_kthread.h"

#define KLP_ID		0x6b6c7052UL
#define KLP_THREADS	4
#define KLP_ROUNDS	200
#define KLP_WAIT_MS	50ULL
#define KLP_KEEP_MS	1ULL
#define KLP_KEEP_LOOPS	20

static int klp_objs[KLP_ROUNDS];	/* what the variables are attached to */
static void *klp_got[KLP_ROUNDS][KLP_THREADS];

static atomic_t klp_ctor_calls = ATOMIC_INIT(0);
static unsigned int klp_dtor_calls;
static atomic_t klp_arrived[KLP_ROUNDS];
static atomic_t klp_running = ATOMIC_INIT(KLP_THREADS);
static DECLARE_COMPLETION(klp_done);

static char *allocator = "";
module_param(allocator, charp, 0444);
MODULE_PARM_DESC(allocator, "Function that gives memory of any size (default: wait for no thread)");

static atomic_t klp_allocating[KLP_ROUNDS];	/* how many threads do, or did */
static unsigned int klp_round_of[KLP_THREADS];
static struct task_struct *klp_threads[KLP_THREADS];
static unsigned int klp_late;

static int klp_allocator_pre(struct kprobe *p, struct pt_regs *regs)
{
	unsigned int i;

	for (i = 0; i < KLP_THREADS; i++)
		if (current == READ_ONCE(klp_threads[i]))
			atomic_inc(&klp_allocating[klp_round_of[i]]);
	return 0;
}

static struct kprobe klp_allocator = {
	.pre_handler = klp_allocator_pre,
};

/* Also counted: a slow host may run no CPU meanwhile. */
static void klp_keep(struct irq_work *work)
{
	u64 end = ktime_get_mono_fast_ns() + KLP_KEEP_MS * NSEC_PER_MSEC;
	unsigned int loops = 0;

	while (loops++ < KLP_KEEP_LOOPS || ktime_get_mono_fast_ns() < end)
		cpu_relax();
}

static struct irq_work klp_keep_work;

static int klp_ctor(void *obj, void *shadow_data, void *ctor_data)
{
	u64 end = ktime_get_mono_fast_ns() + KLP_WAIT_MS * NSEC_PER_MSEC;
	unsigned int round = (int *)obj - klp_objs;

	atomic_inc(&klp_ctor_calls);
	if (!*allocator)
		return 0;
	/* This thread has allocated, too. */
	while (atomic_read(&klp_allocating[round]) < 2) {
		if (ktime_get_mono_fast_ns() > end)
			return 0;
		cpu_relax();
	}
	klp_late++;
	irq_work_queue(&klp_keep_work);
	return 0;
}

static void klp_dtor(void *obj, void *shadow_data)
{
	klp_dtor_calls++;
}

/* cpu_relax() lets an emulator run the next CPU at once, not after its share of time. */
static void klp_relax(void)
{
	cond_resched();
	cpu_relax();
}

static int klp_race_thread(void *data)
{
	unsigned long me = (unsigned long)data;
	unsigned int round;

	for (round = 0; round < KLP_ROUNDS; round++) {
		/* All continue when the last one has arrived. */
		WRITE_ONCE(klp_round_of[me], round);
		atomic_inc(&klp_arrived[round]);
		while (atomic_read(&klp_arrived[round]) < KLP_THREADS)
			klp_relax();
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
	unsigned int i, same = 0;
	int ret = 0;

	klp_init_hard_irq_work(&klp_keep_work, klp_keep);
	if (*allocator) {
		klp_allocator.symbol_name = allocator;
		ret = register_kprobe(&klp_allocator);
		if (ret)
			return ret;
	}

	/* All or none: the others would wait forever for a missing one. */
	for (i = 0; i < KLP_THREADS; i++) {
		struct task_struct *thread;

		thread = kthread_create(klp_race_thread, (void *)(unsigned long)i, "klp_race/%u",
					i);
		if (IS_ERR(thread)) {
			ret = PTR_ERR(thread);
			goto stop;
		}
		/* On two CPUs: one in the constructor does not keep the others from theirs. */
		kthread_bind(thread, i % num_online_cpus());
		klp_threads[i] = thread;
	}
	for (i = 0; i < KLP_THREADS; i++)
		wake_up_process(klp_threads[i]);
	wait_for_completion(&klp_done);

	for (i = 0; i < KLP_ROUNDS; i++)
		same += klp_all_same(i);
	klp_shadow_free_all(KLP_ID, klp_dtor);
	pr_info("race rounds=%u constructors=%d same=%u destructors=%u late=%u\n", KLP_ROUNDS,
		atomic_read(&klp_ctor_calls), same, klp_dtor_calls, klp_late);
	i = KLP_THREADS;
stop:
	while (i--)
		kthread_stop(klp_threads[i]);
	irq_work_sync(&klp_keep_work);
	if (*allocator)
		unregister_kprobe(&klp_allocator);
	return ret;
}

static void __exit klp_test_shadow_race_exit(void)
{
}

module_init(klp_test_shadow_race_init);
module_exit(klp_test_shadow_race_exit);
MODULE_DESCRIPTION("Livepatch test: threads that race for one shadow variable");
MODULE_LICENSE("GPL");
