// SPDX-License-Identifier: GPL-2.0-only
/*
 * The code of a livepatch of klp_target_mod. It patches klp_target_f(), and
 * klp_target_g() as well when KLP_PATCH_G is defined. The new functions return
 * "f NAME" and "g NAME", with the name of the patch. Its callbacks on
 * klp_target_mod are logged, see klp_callbacks.h.
 *
 * Parameter: replace (bool), the patch replaces all others.
 */

#include <linux/kernel.h>
#include <linux/livepatch.h>
#include <linux/module.h>

#include "klp_callbacks.h"
#include "klp_compat.h"

static bool replace;
module_param(replace, bool, 0444);
MODULE_PARM_DESC(replace, "Replace all other patches (default off)");

static __klp_noipa const char *klp_test_target_new_f(void)
{
	return klp_opaque("f " KBUILD_MODNAME);
}

#ifdef KLP_PATCH_G
static __klp_noipa const char *klp_test_target_new_g(void)
{
	return klp_opaque("g " KBUILD_MODNAME);
}
#endif

static struct klp_func klp_target_funcs[] = {
	{
		.old_name = "klp_target_f",
		.new_func = klp_test_target_new_f,
	},
#ifdef KLP_PATCH_G
	{
		.old_name = "klp_target_g",
		.new_func = klp_test_target_new_g,
	},
#endif
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

static int __init klp_test_target_init(void)
{
	klp_target_patch.replace = replace;
	return klp_enable_patch(&klp_target_patch);
}

static void __exit klp_test_target_exit(void)
{
}

module_init(klp_test_target_init);
module_exit(klp_test_target_exit);
MODULE_LICENSE("GPL");
