// SPDX-License-Identifier: GPL-2.0-only
/*
 * klp_uptime_idle - commit a130e8fbc7de ("fs/proc/uptime.c: Fix idle time
 * reporting in /proc/uptime") as a livepatch.
 *
 * The idle time of a CPU whose tick is stopped is not in its kcpustat until the
 * tick starts again. The fixed body asks for it where /proc/stat asks.
 */

#include <linux/kernel_stat.h>
#include <linux/livepatch.h>
#include <linux/module.h>
#include <linux/seq_file.h>
#include <linux/tick.h>
#include <linux/time.h>
#include <linux/timekeeping.h>

static u64 klp_idle_ns(int cpu)
{
	u64 idle_us = cpu_online(cpu) ? get_cpu_idle_time_us(cpu, NULL) : -1ULL;

	/* Offline, or it never stops its tick. */
	if (idle_us == -1ULL)
		return kcpustat_cpu(cpu).cpustat[CPUTIME_IDLE];
	return idle_us * NSEC_PER_USEC;
}

static int klp_uptime_proc_show(struct seq_file *m, void *v)
{
	struct timespec64 uptime;
	u64 idle_ns = 0;
	u32 rem;
	u64 idle_s;
	int cpu;

	for_each_possible_cpu(cpu)
		idle_ns += klp_idle_ns(cpu);

	ktime_get_boottime_ts64(&uptime);
	idle_s = div_u64_rem(idle_ns, NSEC_PER_SEC, &rem);
	seq_printf(m, "%lu.%02lu %lu.%02lu\n",
		   (unsigned long)uptime.tv_sec, uptime.tv_nsec / (NSEC_PER_SEC / 100),
		   (unsigned long)idle_s, rem / (NSEC_PER_SEC / 100));
	return 0;
}

static struct klp_func funcs[] = {
	{ .old_name = "uptime_proc_show", .new_func = klp_uptime_proc_show },
	{ }
};

static struct klp_object objs[] = {
	{ .funcs = funcs },
	{ }
};

static struct klp_patch patch = {
	.mod = THIS_MODULE,
	.objs = objs,
	.replace = true,
};

static int __init klp_uptime_idle_init(void)
{
	return klp_enable_patch(&patch);
}
module_init(klp_uptime_idle_init);

static void __exit klp_uptime_idle_exit(void)
{
}
module_exit(klp_uptime_idle_exit);

MODULE_DESCRIPTION("Livepatch: the idle time in /proc/uptime");
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");
