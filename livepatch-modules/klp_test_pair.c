// SPDX-License-Identifier: GPL-2.0-only
/*
 * klp_test_pair - patches klp_pair_f() and klp_pair_g() of klp_target_pair together.
 *
 * The new functions do what the old ones do, and report "patched". They use symbols
 * of klp_target_pair, which has to be loaded first.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/kernel.h>
#include <linux/livepatch.h>
#include <linux/module.h>

#include "klp_compat.h"
#include "klp_pair.h"

static __klp_noipa void klp_test_pair_g(struct klp_pair *pair)
{
	pair->g = "patched";
}

/* Calls klp_pair_g() by its name: ftrace decides which version runs. */
static __klp_noipa void klp_test_pair_f(struct klp_pair *pair)
{
	pair->f = "patched";
	klp_pair_pause(pair);
	klp_pair_g(pair);
	barrier();
}

static struct klp_func klp_pair_funcs[] = {
	{
		.old_name = "klp_pair_f",
		.new_func = klp_test_pair_f,
	},
	{
		.old_name = "klp_pair_g",
		.new_func = klp_test_pair_g,
	},
	{ }
};

static struct klp_object klp_pair_objs[] = {
	{
		.name = "klp_target_pair",
		.funcs = klp_pair_funcs,
	},
	{ }
};

static struct klp_patch klp_pair_patch = {
	.mod = THIS_MODULE,
	.objs = klp_pair_objs,
};

static int __init klp_test_pair_init(void)
{
	return klp_enable_patch(&klp_pair_patch);
}

static void __exit klp_test_pair_exit(void)
{
}

module_init(klp_test_pair_init);
module_exit(klp_test_pair_exit);
MODULE_DESCRIPTION("Livepatch test: both functions of klp_target_pair");
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");
