// SPDX-License-Identifier: GPL-2.0-only
/*
 * klp_test_exit_loop - patches the function that does a task's work on its way to user mode.
 *
 * That function calls klp_update_patch_state(), and handles signals after that: a
 * task may be stopped in it. It is exit_to_user_mode_prepare() before 6.12, and
 * later exit_to_user_mode_loop(), which ftrace does not know.
 *
 * The new function calls the original behind its ftrace hook, so it is on the
 * stack when the original switches the task.
 *
 * The patch has klp_gate_wait() of klp_target_gate as well: a task in gate 0, 1
 * or 2 holds the transition. klp_target_gate has to be loaded first.
 *
 * Parameter: function (charp), what to patch.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/ftrace.h>
#include <linux/kernel.h>
#include <linux/livepatch.h>
#include <linux/module.h>
#include <linux/ptrace.h>

#include "klp_compat.h"
#include "klp_gate.h"

static char *function = "exit_to_user_mode_prepare";
module_param(function, charp, 0444);
MODULE_PARM_DESC(function, "What to patch (default exit_to_user_mode_prepare)");

static __klp_noipa unsigned long klp_test_exit_loop_work(struct pt_regs *regs, unsigned long work);
static __klp_noipa int klp_test_exit_loop_wait(unsigned int n);

static struct klp_func klp_vmlinux_funcs[] = {
	{
		.old_name = "exit_to_user_mode_prepare",
		.new_func = klp_test_exit_loop_work,
	},
	{ }
};

static struct klp_func klp_gate_funcs[] = {
	{
		.old_name = "klp_gate_wait",
		.new_func = klp_test_exit_loop_wait,
	},
	{ }
};

/* For both prototypes: the older function has the first parameter alone, and returns nothing. */
static unsigned long klp_test_exit_loop_work(struct pt_regs *regs, unsigned long work)
{
	unsigned long (*original)(struct pt_regs *regs, unsigned long work);

	original = klp_behind_hook(klp_vmlinux_funcs[0].old_func);
	work = original(regs, work);
	barrier();
	return work;
}

static int klp_test_exit_loop_wait(unsigned int n)
{
	klp_gate_sleep(n);
	barrier();
	return 1;
}

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

static int __init klp_test_exit_loop_init(void)
{
	klp_vmlinux_funcs[0].old_name = function;
	return klp_enable_patch(&klp_exit_patch);
}

static void __exit klp_test_exit_loop_exit(void)
{
}

module_init(klp_test_exit_loop_init);
module_exit(klp_test_exit_loop_exit);
MODULE_DESCRIPTION("Livepatch test: the function in which a task is switched and then stopped");
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");
