// SPDX-License-Identifier: GPL-2.0-only
/*
 * klp_test_untraceable - patches a function that ftrace cannot hook, with callbacks.
 *
 * The patch can be loaded while its target, klp_target_notrace, is not. When the
 * target is loaded, the kernel runs pre_patch, fails to patch klp_untraced(), and
 * must run post_unpatch. Logs its callbacks, see klp_callbacks.h.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/kernel.h>
#include <linux/livepatch.h>
#include <linux/module.h>

#include "klp_callbacks.h"
#include "klp_compat.h"

static __klp_noipa const char *klp_test_untraceable_text(void)
{
	return klp_opaque(KBUILD_MODNAME);
}

static struct klp_func klp_untraceable_funcs[] = {
	{
		.old_name = "klp_untraced",
		.new_func = klp_test_untraceable_text,
	},
	{ }
};

static struct klp_object klp_untraceable_objs[] = {
	{
		.name = "klp_target_notrace",
		.funcs = klp_untraceable_funcs,
		.callbacks = KLP_LOG_CALLBACKS(klp_log_pre_patch),
	},
	{ }
};

static struct klp_patch klp_untraceable_patch = {
	.mod = THIS_MODULE,
	.objs = klp_untraceable_objs,
};

static int __init klp_test_untraceable_init(void)
{
	return klp_enable_patch(&klp_untraceable_patch);
}

static void __exit klp_test_untraceable_exit(void)
{
}

module_init(klp_test_untraceable_init);
module_exit(klp_test_untraceable_exit);
MODULE_DESCRIPTION("Livepatch test: a function that cannot be patched, with callbacks");
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");
