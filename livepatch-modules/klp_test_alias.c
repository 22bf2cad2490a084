// SPDX-License-Identifier: GPL-2.0-only
/*
 * klp_test_alias - replaces all other patches, and patches klp_alias() of klp_target_alias.
 *
 * The new function returns "klp_test_alias". A patch that names the same function
 * klp_named() is replaced. klp_alias_hold() is patched as well: a task that reads
 * "held" holds the transition.
 *
 * klp_target_gate has to be loaded first.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/kernel.h>
#include <linux/livepatch.h>
#include <linux/module.h>

#include "klp_compat.h"
#include "klp_gate.h"

#define KLP_ALIAS_GATE	0

static __klp_noipa const char *klp_test_alias_text(void)
{
	return klp_opaque(KBUILD_MODNAME);
}

static __klp_noipa const char *klp_test_alias_hold(void)
{
	klp_gate_sleep(KLP_ALIAS_GATE);
	barrier();
	return klp_opaque(KBUILD_MODNAME " held");
}

static struct klp_func klp_alias_funcs[] = {
	{
		.old_name = "klp_alias",
		.new_func = klp_test_alias_text,
	},
	{
		.old_name = "klp_alias_hold",
		.new_func = klp_test_alias_hold,
	},
	{ }
};

static struct klp_object klp_alias_objs[] = {
	{
		.name = "klp_target_alias",
		.funcs = klp_alias_funcs,
	},
	{ }
};

static struct klp_patch klp_alias_patch = {
	.mod = THIS_MODULE,
	.objs = klp_alias_objs,
	.replace = true,
};

static int __init klp_test_alias_init(void)
{
	return klp_enable_patch(&klp_alias_patch);
}

static void __exit klp_test_alias_exit(void)
{
}

module_init(klp_test_alias_init);
module_exit(klp_test_alias_exit);
MODULE_DESCRIPTION("Livepatch test: an atomic replace by a function's other name");
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");
