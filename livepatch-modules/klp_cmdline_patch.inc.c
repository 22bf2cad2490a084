// SPDX-License-Identifier: GPL-2.0-only
/*
 * The code of a livepatch with which /proc/cmdline shows the name of the patch.
 *
 * Every kernel has cmdline_proc_show() as a static function of vmlinux, no task
 * sleeps in it, and one read shows which version ran.
 *
 * Parameter: replace (bool), the patch replaces all others.
 */

#include <linux/kernel.h>
#include <linux/livepatch.h>
#include <linux/module.h>
#include <linux/seq_file.h>

#include "klp_compat.h"

static bool replace;
module_param(replace, bool, 0444);
MODULE_PARM_DESC(replace, "Replace all other patches (default off)");

static __klp_noipa int klp_test_cmdline_proc_show(struct seq_file *m, void *v)
{
	seq_printf(m, "%s: this has been live patched\n", KBUILD_MODNAME);
	return 0;
}

static struct klp_func klp_cmdline_funcs[] = {
	{
		.old_name = "cmdline_proc_show",
		.new_func = klp_test_cmdline_proc_show,
	},
	{ }
};

static struct klp_object klp_cmdline_objs[] = {
	{
		.funcs = klp_cmdline_funcs,
	},
	{ }
};

static struct klp_patch klp_cmdline_patch = {
	.mod = THIS_MODULE,
	.objs = klp_cmdline_objs,
};

static int __init klp_cmdline_init(void)
{
	klp_cmdline_patch.replace = replace;
	return klp_enable_patch(&klp_cmdline_patch);
}

static void __exit klp_cmdline_exit(void)
{
}

module_init(klp_cmdline_init);
module_exit(klp_cmdline_exit);
MODULE_DESCRIPTION("Livepatch test: /proc/cmdline shows the name of the patch");
MODULE_LICENSE("GPL");
