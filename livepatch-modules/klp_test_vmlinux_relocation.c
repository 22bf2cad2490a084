// SPDX-License-Identifier: GPL-2.0-only
/*
 * klp_test_vmlinux_relocation - uses a symbol of the kernel that is not exported.
 *
 * init copies the text that klp_hidden_text stands for, and the new
 * cmdline_proc_show() prints it. Its address is in one of two sections: as a
 * pointer, or as a distance, as in the operand of a call. As built here neither is
 * set, and the text is "unrelocated". A tool turns the relocations of one section
 * into livepatch relocations (Documentation/livepatch/module-elf-format.rst): it
 * renames the section of the relocations to .klp.rela.vmlinux.SECTION and the
 * symbol to .klp.sym.vmlinux.SYMBOL,0.
 *
 * Parameter: seen, the text that init has read.
 *
 * checkpatch: ignore AVOID_EXTERNS: one is not defined when the module is built, one is in assembly
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/compiler.h>
#include <linux/kernel.h>
#include <linux/livepatch.h>
#include <linux/module.h>
#include <linux/seq_file.h>
#include <linux/string.h>

#include "klp_compat.h"

static char klp_seen[512];
static char *seen = klp_seen;
module_param(seen, charp, 0444);
MODULE_PARM_DESC(seen, "The text that init has read");

extern const char klp_hidden_text[] __weak;

static const char *klp_hidden __section(".klp_hidden") = klp_hidden_text;

asm("	.pushsection .klp_hidden_near, \"aw\", @progbits\n"
"	.balign 4\n"
"	.weak klp_hidden_near_text\n"
"klp_hidden_near:\n"
"	.long klp_hidden_near_text - .\n"
"	.popsection\n");

extern s32 klp_hidden_near;

static const char *klp_vmlinux_text(void)
{
	/* Modules are in the last 2 GiB: the distance to address 0 fits, and the sum is NULL. */
	unsigned long near = (unsigned long)&klp_hidden_near + READ_ONCE(klp_hidden_near);
	const char *text = READ_ONCE(klp_hidden) ?: (const char *)near;

	return text ?: "unrelocated";
}

static __klp_noipa int klp_test_cmdline_proc_show(struct seq_file *m, void *v)
{
	seq_puts(m, klp_vmlinux_text());
	return 0;
}

static struct klp_func klp_vmlinux_funcs[] = {
	{
		.old_name = "cmdline_proc_show",
		.new_func = klp_test_cmdline_proc_show,
	},
	{ }
};

static struct klp_object klp_vmlinux_objs[] = {
	{
		.funcs = klp_vmlinux_funcs,
	},
	{ }
};

static struct klp_patch klp_vmlinux_patch = {
	.mod = THIS_MODULE,
	.objs = klp_vmlinux_objs,
};

static int __init klp_test_vmlinux_relocation_init(void)
{
	strscpy(klp_seen, klp_vmlinux_text(), sizeof(klp_seen));
	return klp_enable_patch(&klp_vmlinux_patch);
}

static void __exit klp_test_vmlinux_relocation_exit(void)
{
}

module_init(klp_test_vmlinux_relocation_init);
module_exit(klp_test_vmlinux_relocation_exit);
MODULE_DESCRIPTION("Livepatch test: a symbol of the kernel that is not exported");
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");
