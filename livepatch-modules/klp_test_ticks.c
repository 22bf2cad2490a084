// SPDX-License-Identifier: GPL-2.0-only
/*
 * klp_test_ticks - patches functions that interrupts and idle CPUs call.
 *
 * The objects: klp_target_ticks, whose klp_tick() interrupts call, and vmlinux
 * with the idle routines of arch/x86/kernel/process.c, which idle CPUs call
 * while RCU does not watch them (kernel/sched/idle.c, default_idle_call()).
 * All of these wait for an interrupt, and so does the new function.
 *
 * Parameters:
 *	idle		names of idle routines (default none). Only those that ftrace
 *			can hook: later kernels have made them noinstr
 *	ticks, idles	how often the new functions ran; some calls may be lost
 *	unwatched	how often that of an idle routine ran with RCU not watching
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/irqflags.h>
#include <linux/kernel.h>
#include <linux/livepatch.h>
#include <linux/module.h>
#include <linux/rcupdate.h>

#include "klp_compat.h"

#define KLP_IDLES	4

static char *idle[KLP_IDLES];
static int idle_routines;
module_param_array(idle, charp, &idle_routines, 0444);
MODULE_PARM_DESC(idle, "Idle routines to patch as well (default none)");

static unsigned int ticks;
module_param(ticks, uint, 0444);
MODULE_PARM_DESC(ticks, "How often the new klp_tick() ran");

static unsigned int idles;
module_param(idles, uint, 0444);
MODULE_PARM_DESC(idles, "How often the new idle routine ran");

static unsigned int unwatched;
module_param(unwatched, uint, 0444);
MODULE_PARM_DESC(unwatched, "How often the new idle routine ran with RCU not watching");

static __klp_noipa void klp_test_ticks_tick(void)
{
	WRITE_ONCE(ticks, READ_ONCE(ticks) + 1);
}

static __klp_noipa void klp_test_ticks_idle(void)
{
	WRITE_ONCE(idles, READ_ONCE(idles) + 1);
	if (!rcu_is_watching())
		WRITE_ONCE(unwatched, READ_ONCE(unwatched) + 1);
	raw_safe_halt();
}

static struct klp_func klp_ticks_funcs[] = {
	{
		.old_name = "klp_tick",
		.new_func = klp_test_ticks_tick,
	},
	{ }
};

static struct klp_func klp_idle_funcs[KLP_IDLES + 1];

/* An object without functions ends the list: see init. */
static struct klp_object klp_ticks_objs[] = {
	{
		.name = "klp_target_ticks",
		.funcs = klp_ticks_funcs,
	},
	{ },
	{ }
};

static struct klp_patch klp_ticks_patch = {
	.mod = THIS_MODULE,
	.objs = klp_ticks_objs,
};

static int __init klp_test_ticks_init(void)
{
	int i;

	for (i = 0; i < idle_routines; i++) {
		klp_idle_funcs[i].old_name = idle[i];
		klp_idle_funcs[i].new_func = klp_test_ticks_idle;
	}
	if (idle_routines)
		klp_ticks_objs[1].funcs = klp_idle_funcs;
	return klp_enable_patch(&klp_ticks_patch);
}

static void __exit klp_test_ticks_exit(void)
{
}

module_init(klp_test_ticks_init);
module_exit(klp_test_ticks_exit);
MODULE_DESCRIPTION("Livepatch test: functions that interrupts and idle CPUs call");
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");
