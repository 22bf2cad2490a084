/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The whole of a livepatch whose /proc/cmdline shows the name of the patch.
 *
 * cmdline_proc_show() is a static function of vmlinux that every kernel has,
 * that no task sleeps in, and whose effect one read shows.
 *
 * Parameter: replace (bool), the patch replaces all the others.
 */

#ifndef KLP_CMDLINE_PATCH_H
#define KLP_CMDLINE_PATCH_H

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

#endif /* KLP_CMDLINE_PATCH_H */
