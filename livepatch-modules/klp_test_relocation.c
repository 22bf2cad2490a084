// SPDX-License-Identifier: GPL-2.0-only
/*
 * klp_test_relocation - a new function that calls a function of its target which is not exported.
 *
 * The new klp_target_f() returns what klp_target_g() returns. The address of that
 * is in one of two sections: as a pointer, or as a distance, as in the operand of
 * a call. As built here neither is set, and klp_target_f() returns
 * "f unrelocated". A tool turns the relocations of one section into livepatch
 * relocations (Documentation/livepatch/module-elf-format.rst), which the kernel
 * applies when the target is loaded: it renames the section of the relocations to
 * .klp.rela.klp_target_mod.SECTION and the symbol to
 * .klp.sym.klp_target_mod.klp_target_g,0.
 *
 * Parameter: pre_patch_ret (int), what pre_patch of klp_target_mod returns. The
 * kernel calls it when it has applied the relocations.
 *
 * checkpatch: ignore WEAK_DECLARATION: modpost wants everything else to be defined
 * checkpatch: ignore NEW_TYPEDEFS: a pointer to a function that is used often
 * checkpatch: ignore AVOID_EXTERNS: defined below, in assembly
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/compiler.h>
#include <linux/kernel.h>
#include <linux/livepatch.h>
#include <linux/module.h>

#include "klp_callbacks.h"
#include "klp_compat.h"

typedef const char *klp_text_fn(void);

/* Not defined when the module is built. */
klp_text_fn klp_hidden_function __weak;

static klp_text_fn *klp_hidden __section(".klp_hidden") = klp_hidden_function;

asm("	.pushsection .klp_hidden_near, \"aw\", @progbits\n"
"	.balign 4\n"
"	.weak klp_hidden_near_function\n"
"klp_hidden_near:\n"
"	.long klp_hidden_near_function - .\n"
"	.popsection\n");

extern s32 klp_hidden_near;

static int pre_patch_ret;
module_param(pre_patch_ret, int, 0644);
MODULE_PARM_DESC(pre_patch_ret, "What pre_patch of klp_target_mod returns (default 0)");

static __klp_noipa const char *klp_test_relocation_f(void)
{
	/* Modules are in the last 2 GiB: the distance to address 0 fits, and the sum is NULL. */
	unsigned long near = (unsigned long)&klp_hidden_near + READ_ONCE(klp_hidden_near);
	klp_text_fn *hidden = READ_ONCE(klp_hidden) ?: (klp_text_fn *)near;

	return hidden ? hidden() : "f unrelocated";
}

static int klp_target_pre_patch(struct klp_object *obj)
{
	klp_log_pre_patch(obj);
	return pre_patch_ret;
}

static struct klp_func klp_target_funcs[] = {
	{
		.old_name = "klp_target_f",
		.new_func = klp_test_relocation_f,
	},
	{ }
};

static struct klp_object klp_target_objs[] = {
	{
		.name = "klp_target_mod",
		.funcs = klp_target_funcs,
		.callbacks = KLP_LOG_CALLBACKS(klp_target_pre_patch),
	},
	{ }
};

static struct klp_patch klp_target_patch = {
	.mod = THIS_MODULE,
	.objs = klp_target_objs,
};

static int __init klp_test_relocation_init(void)
{
	return klp_enable_patch(&klp_target_patch);
}

static void __exit klp_test_relocation_exit(void)
{
}

module_init(klp_test_relocation_init);
module_exit(klp_test_relocation_exit);
MODULE_DESCRIPTION("Livepatch test: a function of the target that is not exported");
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");
