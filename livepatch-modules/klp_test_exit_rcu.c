// SPDX-License-Identifier: GPL-2.0-only
/*
 * klp_test_exit_rcu - patches exit_rcu(), which do_exit() calls when a thread is on no list.
 *
 * A thread for which nobody waits left all lists of tasks in exit_notify(), so no
 * transition has given it a patch state. It calls exit_rcu() later.
 *
 * The patch has klp_gate_wait() of klp_target_gate as well: a task in gate 0, 1
 * or 2 holds the transition. klp_target_gate has to be loaded first.
 *
 * While it is enabled, exit_rcu() does nothing, which is what the kernel's own
 * does for a task that is in no read-side critical section of RCU.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/kernel.h>
#include <linux/livepatch.h>
#include <linux/module.h>

#include "klp_compat.h"
#include "klp_gate.h"

static __klp_noipa void klp_test_exit_rcu_late(void)
{
	barrier();
}

static __klp_noipa int klp_test_exit_rcu_wait(unsigned int n)
{
	klp_gate_sleep(n);
	barrier();
	return klp_opaque(1);
}

static struct klp_func klp_vmlinux_funcs[] = {
	{
		.old_name = "exit_rcu",
		.new_func = klp_test_exit_rcu_late,
	},
	{ }
};

static struct klp_func klp_gate_funcs[] = {
	{
		.old_name = "klp_gate_wait",
		.new_func = klp_test_exit_rcu_wait,
	},
	{ }
};

static struct klp_object klp_exit_objs[] = {
	{
		.funcs = klp_vmlinux_funcs,
	},
	{
		.name = "klp_target_gate",
		.funcs = klp_gate_funcs,
	},
	{ }
};

static struct klp_patch klp_exit_patch = {
	.mod = THIS_MODULE,
	.objs = klp_exit_objs,
};

static int __init klp_test_exit_rcu_init(void)
{
	return klp_enable_patch(&klp_exit_patch);
}

static void __exit klp_test_exit_rcu_exit(void)
{
}

module_init(klp_test_exit_rcu_init);
module_exit(klp_test_exit_rcu_exit);
MODULE_DESCRIPTION("Livepatch test: a function that a task calls when it is on no list");
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");
