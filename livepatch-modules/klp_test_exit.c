// SPDX-License-Identifier: GPL-2.0-only
/*
 * klp_test_exit - patches a function that an exiting task runs late.
 *
 * do_exit() calls exit_task_stack_account() after exit_notify(). By then a
 * thread that nobody waits for is on no list of tasks, so no transition
 * considers it. The new function has a task named "klp-leaving" sleep in gate 7 of
 * klp_target_gate, which has to be loaded first. It omits the accounting of the
 * original function.
 *
 * Older kernels, such as 5.10, have no such function. For them use
 * function=free_pipe_info: do_exit() calls it for a task that has spliced. While
 * that is patched the kernel does not free pipes.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/kernel.h>
#include <linux/livepatch.h>
#include <linux/module.h>
#include <linux/sched.h>
#include <linux/string.h>

#include "klp_compat.h"
#include "klp_gate.h"

#define KLP_EXIT_GATE	7

static char *function = "exit_task_stack_account";
module_param(function, charp, 0444);
MODULE_PARM_DESC(function, "What to patch: exit_task_stack_account (default) or free_pipe_info");

/* barrier(): after a tail call the task would not return to this function. */
static __klp_noipa void klp_test_exit_late(void *unused)
{
	if (!strcmp(current->comm, "klp-leaving"))
		klp_gate_sleep(KLP_EXIT_GATE);
	barrier();
}

static struct klp_func klp_exit_funcs[] = {
	{
		.old_name = "exit_task_stack_account",
		.new_func = klp_test_exit_late,
	},
	{ }
};

static struct klp_object klp_exit_objs[] = {
	{
		.funcs = klp_exit_funcs,
	},
	{ }
};

static struct klp_patch klp_exit_patch = {
	.mod = THIS_MODULE,
	.objs = klp_exit_objs,
};

static int __init klp_test_exit_init(void)
{
	klp_exit_funcs[0].old_name = function;
	return klp_enable_patch(&klp_exit_patch);
}

static void __exit klp_test_exit_exit(void)
{
}

module_init(klp_test_exit_init);
module_exit(klp_test_exit_exit);
MODULE_DESCRIPTION("Livepatch test: a function that an exiting task runs late");
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");
