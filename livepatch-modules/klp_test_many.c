// SPDX-License-Identifier: GPL-2.0-only
/*
 * klp_test_many - patches the first functions of klp_target_many, up to 400 of them.
 *
 * Parameter: functions (1 to 400), how many.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/kernel.h>
#include <linux/livepatch.h>
#include <linux/module.h>

#include "klp_compat.h"
#include "klp_many.h"

static unsigned int functions = KLP_MANY;
module_param(functions, uint, 0444);
MODULE_PARM_DESC(functions, "How many functions are patched, 1 to 400 (default 400)");

static __klp_noipa int klp_many_patched(bool hold)
{
	return KLP_MANY_PATCHED;
}

static char klp_many_names[KLP_MANY][16];
static struct klp_func klp_many_funcs[KLP_MANY + 1];

static struct klp_object klp_many_objs[] = {
	{
		.name = "klp_target_many",
		.funcs = klp_many_funcs,
	},
	{ }
};

static struct klp_patch klp_many_patch = {
	.mod = THIS_MODULE,
	.objs = klp_many_objs,
};

static int __init klp_test_many_init(void)
{
	unsigned int i;

	if (!functions || functions > KLP_MANY)
		return -EINVAL;
	for (i = 0; i < functions; i++) {
		snprintf(klp_many_names[i], sizeof(klp_many_names[i]), "klp_many_%u",
			 KLP_MANY_FIRST + i);
		klp_many_funcs[i].old_name = klp_many_names[i];
		klp_many_funcs[i].new_func = klp_many_patched;
	}
	return klp_enable_patch(&klp_many_patch);
}

static void __exit klp_test_many_exit(void)
{
}

module_init(klp_test_many_init);
module_exit(klp_test_many_exit);
MODULE_DESCRIPTION("Livepatch test: patches hundreds of functions");
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");
