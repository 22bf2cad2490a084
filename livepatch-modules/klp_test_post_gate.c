// SPDX-License-Identifier: GPL-2.0-only
/*
 * klp_test_post_gate - its post_patch callback sleeps in gate 5; patches no function.
 *
 * With the gate closed, all tasks have switched but the transition is not
 * complete: the task that completes it sleeps there, which may be insmod itself.
 *
 * klp_target_gate has to be loaded first.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/kernel.h>
#include <linux/livepatch.h>
#include <linux/module.h>

#include "klp_gate.h"

#define KLP_POST_GATE	5

static void klp_post_patch(struct klp_object *obj)
{
	klp_gate_sleep(KLP_POST_GATE);
}

static struct klp_func klp_no_funcs[] = {
	{ }
};

static struct klp_object klp_post_objs[] = {
	{
		.funcs = klp_no_funcs,
		.callbacks = {
			.post_patch = klp_post_patch,
		},
	},
	{ }
};

static struct klp_patch klp_post_gate_patch = {
	.mod = THIS_MODULE,
	.objs = klp_post_objs,
};

static int __init klp_test_post_gate_init(void)
{
	return klp_enable_patch(&klp_post_gate_patch);
}

static void __exit klp_test_post_gate_exit(void)
{
}

module_init(klp_test_post_gate_init);
module_exit(klp_test_post_gate_exit);
MODULE_DESCRIPTION("Livepatch test: a post_patch callback that is held");
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");
