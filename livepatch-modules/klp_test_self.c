// SPDX-License-Identifier: GPL-2.0-only
/*
 * klp_test_self - is enabled inside a function that it patches itself.
 *
 * It patches klp_self() of klp_target_self and klp_gate_wait() of klp_target_gate.
 * The new functions do what the old ones do, so that a task can be held in either.
 * The log has "load: patch state N", the state of the task that loads the patch,
 * after klp_enable_patch().
 *
 * The patch uses symbols of both targets, which have to be loaded first.
 *
 * Parameter: inside (bool), klp_enable_patch() is called inside klp_self().
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/kernel.h>
#include <linux/livepatch.h>
#include <linux/module.h>
#include <linux/sched.h>

#include "klp_compat.h"
#include "klp_gate.h"
#include "klp_self.h"

static bool inside;
module_param(inside, bool, 0444);
MODULE_PARM_DESC(inside, "Enable the patch inside klp_self() (default off)");

/* barrier(): the sleeps must not be tail calls. */
static __klp_noipa int klp_test_self_new(int (*call)(void *data), void *data)
{
	int ret;

	ret = call(data);
	klp_gate_sleep(KLP_SELF_GATE);
	barrier();
	return ret;
}

static __klp_noipa int klp_test_self_gate_wait(unsigned int n)
{
	klp_gate_sleep(n);
	barrier();
	return klp_opaque(1);
}

static struct klp_func klp_self_funcs[] = {
	{
		.old_name = "klp_self",
		.new_func = klp_test_self_new,
	},
	{ }
};

static struct klp_func klp_self_gate_funcs[] = {
	{
		.old_name = "klp_gate_wait",
		.new_func = klp_test_self_gate_wait,
	},
	{ }
};

static struct klp_object klp_self_objs[] = {
	{
		.name = "klp_target_self",
		.funcs = klp_self_funcs,
	},
	{
		.name = "klp_target_gate",
		.funcs = klp_self_gate_funcs,
	},
	{ }
};

static struct klp_patch klp_self_patch = {
	.mod = THIS_MODULE,
	.objs = klp_self_objs,
};

static int klp_test_self_enable(void *patch)
{
	int ret;

	ret = klp_enable_patch(patch);
	pr_info("load: patch state %d\n", current->patch_state);
	return ret;
}

static int __init klp_test_self_init(void)
{
	if (inside)
		return klp_self(klp_test_self_enable, &klp_self_patch);
	return klp_test_self_enable(&klp_self_patch);
}

static void __exit klp_test_self_exit(void)
{
}

module_init(klp_test_self_init);
module_exit(klp_test_self_exit);
MODULE_DESCRIPTION("Livepatch test: a patch of a function that enables it");
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");
