// SPDX-License-Identifier: GPL-2.0-only
/*
 * The code of a livepatch that patches the functions that its parameters name; the
 * text of the new function is the module's name. See klp_test_symbol.c.
 */

#include <linux/kernel.h>
#include <linux/livepatch.h>
#include <linux/module.h>

#include "klp_compat.h"

static char *object = "";
module_param(object, charp, 0444);
MODULE_PARM_DESC(object, "Module to be patched (default: vmlinux)");

static char *function = "";
module_param(function, charp, 0444);
MODULE_PARM_DESC(function, "Function to be patched");

static unsigned int sympos;
module_param(sympos, uint, 0444);
MODULE_PARM_DESC(sympos, "Position of the function among those of its name (default 0)");

static char *function2 = "";
module_param(function2, charp, 0444);
MODULE_PARM_DESC(function2, "Another function, patched before the first (default none)");

static unsigned int sympos2;
module_param(sympos2, uint, 0444);
MODULE_PARM_DESC(sympos2, "Position of function2 among those of its name (default 0)");

static bool replace;
module_param(replace, bool, 0444);
MODULE_PARM_DESC(replace, "Replace all other patches (default off)");

static __klp_noipa const char *klp_test_symbol_text(void)
{
	return klp_opaque(KBUILD_MODNAME);
}

static struct klp_func klp_symbol_funcs[3];

static struct klp_object klp_symbol_objs[] = {
	{
		.funcs = klp_symbol_funcs,
	},
	{ }
};

static struct klp_patch klp_symbol_patch = {
	.mod = THIS_MODULE,
	.objs = klp_symbol_objs,
};

static int __init klp_test_symbol_init(void)
{
	struct klp_func *func = klp_symbol_funcs;

	if (!*function) {
		pr_err("parameter function is missing\n");
		return -EINVAL;
	}

	if (*function2) {
		func->old_name = function2;
		func->old_sympos = sympos2;
		func->new_func = klp_test_symbol_text;
		func++;
	}
	func->old_name = function;
	func->old_sympos = sympos;
	func->new_func = klp_test_symbol_text;

	if (*object)
		klp_symbol_objs[0].name = object;
	klp_symbol_patch.replace = replace;
	return klp_enable_patch(&klp_symbol_patch);
}

static void __exit klp_test_symbol_exit(void)
{
}

module_init(klp_test_symbol_init);
module_exit(klp_test_symbol_exit);
MODULE_DESCRIPTION("Livepatch test: functions chosen by parameters");
MODULE_LICENSE("GPL");
