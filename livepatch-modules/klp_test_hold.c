// SPDX-License-Identifier: GPL-2.0-only
/*
 * klp_test_hold - holds a CPU inside klp_ftrace_handler(). No livepatch.
 *
 * Three probes: when a CPU comes to the function "arm" (or, with arm_return,
 * leaves it), it waits until another one is held in klp_ftrace_handler(), at most
 * "wait_ms". It is held until the first CPU leaves the function "release", at most
 * "hold_ms": once for each time that 1 is written to "on".
 *
 * Where it is held: at the first instruction of klp_ftrace_handler(), or with
 * "late" where that reads the patch state of the current task, wherever its code
 * does. By then it has chosen the topmost function, and has seen that this is in
 * transition.
 *
 * Some ticks after the load the probe is a jump (CONFIG_OPTPROBES). Hold no CPU
 * before: interrupts are on in it from then on, and what sends an IPI to all CPUs
 * does not wait for the one that is held.
 *
 * Parameters beside those: armed, how often a CPU came to "arm" and waited; held,
 * how often one was held; late_releases, how often hold_ms were over first.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/atomic.h>
#include <linux/kallsyms.h>
#include <linux/kernel.h>
#include <linux/kprobes.h>
#include <linux/module.h>
#include <linux/sched.h>
#include <linux/string.h>
#include <linux/timekeeping.h>

#define KLP_HANDLER		"klp_ftrace_handler"
#define KLP_MOST_READS		16

static char *arm = "";
module_param(arm, charp, 0444);
MODULE_PARM_DESC(arm, "The function in which a CPU waits until another one is held");

static bool arm_return;
module_param(arm_return, bool, 0444);
MODULE_PARM_DESC(arm_return, "Wait when that function is left (default: when it is entered)");

static char *release = "";
module_param(release, charp, 0444);
MODULE_PARM_DESC(release, "The function whose end releases the CPU that is held");

static bool late;
module_param(late, bool, 0444);
MODULE_PARM_DESC(late, "Hold where the task's patch state is read (default: at the beginning)");

static unsigned int wait_ms = 2000;
module_param(wait_ms, uint, 0444);
MODULE_PARM_DESC(wait_ms, "Wait so long for a CPU to be held (default 2000)");

static unsigned int hold_ms = 4000;
module_param(hold_ms, uint, 0444);
MODULE_PARM_DESC(hold_ms, "Hold a CPU so long at most (default 4000)");

static unsigned int armed;
module_param(armed, uint, 0444);
MODULE_PARM_DESC(armed, "How often a CPU has come to the function arm and waited");

static unsigned int held;
module_param(held, uint, 0444);
MODULE_PARM_DESC(held, "How often a CPU was held");

static unsigned int late_releases;
module_param(late_releases, uint, 0444);
MODULE_PARM_DESC(late_releases, "How often a CPU was held for all of hold_ms");

enum { KLP_OFF, KLP_ON, KLP_ARMED, KLP_HELD };

static atomic_t klp_hold_state = ATOMIC_INIT(KLP_OFF);
static int klp_hold_cpu = -1;

static int on_set(const char *text, const struct kernel_param *kp)
{
	bool value;
	int ret;

	ret = kstrtobool(text, &value);
	if (!ret)
		atomic_set(&klp_hold_state, value ? KLP_ON : KLP_OFF);
	return ret;
}

static int on_get(char *buffer, const struct kernel_param *kp)
{
	return sysfs_emit(buffer, "%d\n", atomic_read(&klp_hold_state) != KLP_OFF);
}

static const struct kernel_param_ops on_ops = {
	.set = on_set,
	.get = on_get,
};
module_param_cb(on, &on_ops, NULL, 0644);
MODULE_PARM_DESC(on, "Write 1: hold the next CPU");

/* Spins while the state is @state; false when it still is after @ms. */
static bool klp_hold_spin(int state, unsigned int ms)
{
	u64 end = ktime_get_mono_fast_ns() + (u64)ms * NSEC_PER_MSEC;

	while (atomic_read(&klp_hold_state) == state) {
		if (ktime_get_mono_fast_ns() > end)
			return false;
		cpu_relax();
	}
	return true;
}

static void klp_hold_arm(void)
{
	WRITE_ONCE(klp_hold_cpu, raw_smp_processor_id());
	if (atomic_cmpxchg(&klp_hold_state, KLP_ON, KLP_ARMED) != KLP_ON)
		return;
	WRITE_ONCE(armed, armed + 1);
	if (!klp_hold_spin(KLP_ARMED, wait_ms))
		atomic_cmpxchg(&klp_hold_state, KLP_ARMED, KLP_OFF);
}

static int klp_arm_entry(struct kretprobe_instance *unused, struct pt_regs *regs)
{
	if (!arm_return)
		klp_hold_arm();
	return 0;
}

static int klp_arm_return(struct kretprobe_instance *unused, struct pt_regs *regs)
{
	if (arm_return)
		klp_hold_arm();
	return 0;
}

static int klp_release_return(struct kretprobe_instance *unused, struct pt_regs *regs)
{
	atomic_cmpxchg(&klp_hold_state, KLP_HELD, KLP_OFF);
	return 0;
}

static int klp_handler_pre(struct kprobe *p, struct pt_regs *regs)
{
	if (raw_smp_processor_id() == READ_ONCE(klp_hold_cpu))
		return 0;
	if (atomic_cmpxchg(&klp_hold_state, KLP_ARMED, KLP_HELD) != KLP_ARMED)
		return 0;
	held++;
	if (!klp_hold_spin(KLP_HELD, hold_ms))
		late_releases++;
	return 0;
}

static struct kretprobe klp_arm = {
	.entry_handler = klp_arm_entry,
	.handler = klp_arm_return,
};

static struct kretprobe klp_release = {
	.handler = klp_release_return,
};

static struct kprobe klp_handler = {
	.symbol_name = KLP_HANDLER,
	.pre_handler = klp_handler_pre,
};

/* With "late": a probe for each instruction that reads the patch state. */
static struct kprobe klp_reads[KLP_MOST_READS];
static unsigned int klp_read_count;

static void klp_unregister_handler(void)
{
	if (!late)
		unregister_kprobe(&klp_handler);
	while (klp_read_count)
		unregister_kprobe(&klp_reads[--klp_read_count]);
}

/*
 * Finds the instructions that read task_struct.patch_state: "mov disp32(reg), reg",
 * with a prefix for the higher registers. A probe in the middle of another
 * instruction is refused.
 */
static int klp_register_late(void)
{
	static char symbol[KSYM_SYMBOL_LEN];	/* klp_ftrace_handler+0x0/0x130 */
	const u32 wanted = offsetof(struct task_struct, patch_state);
	unsigned long size = 0;
	unsigned int at;
	struct kprobe *read;
	const u8 *text;
	u32 found;
	int ret;

	ret = register_kprobe(&klp_handler);
	if (ret)
		return ret;
	text = (const u8 *)klp_handler.addr;
	unregister_kprobe(&klp_handler);
	sprint_symbol(symbol, (unsigned long)text);
	if (strchr(symbol, '/'))
		sscanf(strchr(symbol, '/'), "/%lx", &size);

	for (at = 3; at + sizeof(found) <= size && klp_read_count < KLP_MOST_READS; at++) {
		memcpy(&found, text + at, sizeof(found));
		if (found != wanted || text[at - 2] != 0x8b)
			continue;
		read = &klp_reads[klp_read_count];
		*read = (struct kprobe) {
			.symbol_name = KLP_HANDLER,
			.offset = at - 2,
			.pre_handler = klp_handler_pre,
		};
		if ((text[at - 3] & 0xf0) == 0x40)
			read->offset--;
		if (!register_kprobe(read))
			klp_read_count++;
	}
	if (klp_read_count)
		return 0;
	pr_err(KLP_HANDLER "() does not read the patch state as expected\n");
	return -ENOENT;
}

static int __init klp_test_hold_init(void)
{
	int ret;

	klp_arm.kp.symbol_name = arm;
	klp_release.kp.symbol_name = release;
	ret = late ? klp_register_late() : register_kprobe(&klp_handler);
	if (ret)
		return ret;
	ret = register_kretprobe(&klp_release);
	if (ret)
		goto err_handler;
	ret = register_kretprobe(&klp_arm);
	if (ret)
		goto err_release;
	return 0;

err_release:
	unregister_kretprobe(&klp_release);
err_handler:
	klp_unregister_handler();
	return ret;
}

static void __exit klp_test_hold_exit(void)
{
	unregister_kretprobe(&klp_arm);
	unregister_kretprobe(&klp_release);
	klp_unregister_handler();
}

module_init(klp_test_hold_init);
module_exit(klp_test_hold_exit);
MODULE_DESCRIPTION("Livepatch test: a CPU that is held inside klp_ftrace_handler()");
MODULE_LICENSE("GPL");
