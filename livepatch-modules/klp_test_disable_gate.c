// SPDX-License-Identifier: GPL-2.0-only
/*
 * klp_test_disable_gate - its post_unpatch callback sleeps in gate 5; patches no function.
 *
 * With the gate closed, its disable is not complete though all tasks have switched,
 * and the lock of the livepatch subsystem is held.
 *
 * klp_target_gate has to be loaded first.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/kernel.h>
#include <linux/livepatch.h>
#include <linux/module.h>

#include "klp_gate.h"

#define KLP_DISABLE_GATE	5

static void klp_post_unpatch(struct klp_object *obj)
{
	klp_gate_sleep(KLP_DISABLE_GATE);
}

static struct klp_func klp_no_funcs[] = {
	{ }
};

static struct klp_object klp_disable_objs[] = {
	{
		.funcs = klp_no_funcs,
		.callbacks = {
			.post_unpatch = klp_post_unpatch,
		},
	},
	{ }
};

static struct klp_patch klp_disable_gate_patch = {
	.mod = THIS_MODULE,
	.objs = klp_disable_objs,
};

static int __init klp_test_disable_gate_init(void)
{
	return klp_enable_patch(&klp_disable_gate_patch);
}

static void __exit klp_test_disable_gate_exit(void)
{
}

module_init(klp_test_disable_gate_init);
module_exit(klp_test_disable_gate_exit);
MODULE_DESCRIPTION("Livepatch test: a post_unpatch callback that is held");
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");
