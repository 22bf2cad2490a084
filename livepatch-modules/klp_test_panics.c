// SPDX-License-Identifier: GPL-2.0-only
/*
 * klp_test_panics - a livepatch whose pre_patch callback panics.
 *
 * Serves no rule of the kernel: it shows that the harness tells a panic during a
 * load from a load that was refused.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/bug.h>
#include <linux/kernel.h>
#include <linux/livepatch.h>
#include <linux/module.h>

#include "klp_callbacks.h"

static int klp_panics_pre_patch(struct klp_object *obj)
{
	klp_log_pre_patch(obj);
	panic("%s: panic in pre_patch", KBUILD_MODNAME);
}

static struct klp_func klp_no_funcs[] = {
	{ }
};

static struct klp_object klp_panics_objs[] = {
	{
		.funcs = klp_no_funcs,
		.callbacks = KLP_LOG_CALLBACKS(klp_panics_pre_patch),
	},
	{ }
};

static struct klp_patch klp_panics_patch = {
	.mod = THIS_MODULE,
	.objs = klp_panics_objs,
};

static int __init klp_test_panics_init(void)
{
	return klp_enable_patch(&klp_panics_patch);
}

static void __exit klp_test_panics_exit(void)
{
}

module_init(klp_test_panics_init);
module_exit(klp_test_panics_exit);
MODULE_DESCRIPTION("Livepatch test: panics in its pre_patch callback");
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");
