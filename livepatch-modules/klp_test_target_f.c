// SPDX-License-Identifier: GPL-2.0-only
/*
 * klp_test_target_f - patches klp_target_f() of klp_target_mod, and only that.
 *
 * The new text is "f klp_test_target_f". Replacing klp_test_target_fg it gives
 * klp_target_g() back its original body. Logs the callbacks of that object, see
 * klp_callbacks.h.
 *
 * Parameter: replace (bool), the patch replaces all the others.
 *
 * Serves RP-02, RP-03, RP-05, RP-06, ST-01, MO-01, MO-03.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/kernel.h>
#include <linux/livepatch.h>
#include <linux/module.h>

#include "klp_callbacks.h"
#include "klp_compat.h"

static bool replace;
module_param(replace, bool, 0444);
MODULE_PARM_DESC(replace, "Replace all other patches (default off)");

static __klp_noipa const char *klp_test_target_f_f(void)
{
	return "f " KBUILD_MODNAME;
}

static struct klp_func klp_target_funcs[] = {
	{
		.old_name = "klp_target_f",
		.new_func = klp_test_target_f_f,
	},
	{ }
};

static struct klp_object klp_target_objs[] = {
	{
		.name = "klp_target_mod",
		.funcs = klp_target_funcs,
		.callbacks = KLP_LOG_CALLBACKS(klp_log_pre_patch),
	},
	{ }
};

static struct klp_patch klp_target_patch = {
	.mod = THIS_MODULE,
	.objs = klp_target_objs,
};

static int __init klp_test_target_f_init(void)
{
	klp_target_patch.replace = replace;
	return klp_enable_patch(&klp_target_patch);
}

static void __exit klp_test_target_f_exit(void)
{
}

module_init(klp_test_target_f_init);
module_exit(klp_test_target_f_exit);
MODULE_DESCRIPTION("Livepatch test: function f of klp_target_mod");
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");
