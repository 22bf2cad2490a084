// SPDX-License-Identifier: GPL-2.0-only
/*
 * klp_test_calls - patches functions of system calls that a parameter names.
 *
 * The new function returns -ENOANO, which none of them does by itself: a program
 * that gets it has made the call once more. It does so for tasks named "klp-wait";
 * for others it sleeps for a while and returns -EAGAIN.
 *
 * Parameter: functions, such as __x64_sys_epoll_wait; each returns what its system
 * call does.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/errno.h>
#include <linux/kernel.h>
#include <linux/livepatch.h>
#include <linux/module.h>
#include <linux/sched.h>
#include <linux/string.h>

#include "klp_compat.h"

#define KLP_CALLS	8

static char *functions[KLP_CALLS];
static int klp_calls;
module_param_array(functions, charp, &klp_calls, 0444);
MODULE_PARM_DESC(functions, "Functions to be patched");

/* The arguments differ, and are not looked at. */
static __klp_noipa long klp_test_calls_call(void)
{
	if (!strcmp(current->comm, "klp-wait"))
		return -ENOANO;
	schedule_timeout_interruptible(HZ);
	return -EAGAIN;
}

static struct klp_func klp_call_funcs[KLP_CALLS + 1];

static struct klp_object klp_call_objs[] = {
	{
		.funcs = klp_call_funcs,
	},
	{ }
};

static struct klp_patch klp_call_patch = {
	.mod = THIS_MODULE,
	.objs = klp_call_objs,
};

static int __init klp_test_calls_init(void)
{
	int i;

	for (i = 0; i < klp_calls; i++) {
		klp_call_funcs[i].old_name = functions[i];
		klp_call_funcs[i].new_func = klp_test_calls_call;
	}
	return klp_enable_patch(&klp_call_patch);
}

static void __exit klp_test_calls_exit(void)
{
}

module_init(klp_test_calls_init);
module_exit(klp_test_calls_exit);
MODULE_DESCRIPTION("Livepatch test: functions of system calls");
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");
