// SPDX-License-Identifier: GPL-2.0-only
/*
 * klp_test_incomplete - a livepatch that lacks something the kernel asks for.
 *
 * Parameters: lacks, one of
 *
 *	nothing		it is complete, and patches cmdline_proc_show() (default)
 *	objects		it has none, which is no mistake
 *	patch		klp_enable_patch() is given NULL
 *	mod, objs	the member of klp_patch is NULL
 *	funcs		the member of klp_object is NULL
 *	old_name	the member of klp_func is NULL
 *	new_func	the member of klp_func is NULL
 *	all		klp_func has a position (sympos) and nothing else
 *	text		new_func is no address of a function
 *	short_name	the name of the function is longer than any that the kernel has; it is
 *			one of a module that is not loaded
 *	short_object	the name of the object is longer than that of any module
 *	zeroes		the members that the kernel sets itself are not zero, in two objects:
 *			it patches klp_target_mod as well
 *
 * and replace (bool), the patch replaces all others.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/kallsyms.h>
#include <linux/kernel.h>
#include <linux/livepatch.h>
#include <linux/module.h>
#include <linux/seq_file.h>
#include <linux/string.h>

static char *lacks = "nothing";
module_param(lacks, charp, 0444);
MODULE_PARM_DESC(lacks, "What the livepatch lacks (default nothing)");

static bool replace;
module_param(replace, bool, 0444);
MODULE_PARM_DESC(replace, "Replace all other patches (default off)");

static int klp_test_incomplete_show(struct seq_file *m, void *v)
{
	seq_printf(m, "%s: this has been live patched\n", KBUILD_MODNAME);
	return 0;
}

static char klp_long_name[KSYM_NAME_LEN + 1];

static struct klp_func klp_incomplete_funcs[] = {
	{
		.old_name = "cmdline_proc_show",
		.new_func = klp_test_incomplete_show,
	},
	{ }
};

static struct klp_func klp_dirty_funcs[] = {
	{
		.old_name = "klp_target_f",
		.new_func = klp_test_incomplete_show,
	},
	{ }
};

static struct klp_object klp_incomplete_objs[] = {
	{
		.funcs = klp_incomplete_funcs,
	},
	{ },
	{ }
};

static struct klp_patch klp_incomplete_patch = {
	.mod = THIS_MODULE,
	.objs = klp_incomplete_objs,
};

/* What is marked as internal in include/linux/livepatch.h, and set when it is enabled. */
static void klp_incomplete_dirty(void)
{
	klp_incomplete_objs[1].name = "klp_target_mod";
	klp_incomplete_objs[1].funcs = klp_dirty_funcs;
	klp_incomplete_objs[1].mod = THIS_MODULE;
	klp_incomplete_objs[0].patched = true;
	klp_incomplete_objs[1].patched = true;
	klp_incomplete_funcs[0].patched = true;
	klp_incomplete_funcs[0].transition = true;
	klp_incomplete_patch.enabled = true;
	klp_incomplete_patch.forced = true;
}

static int __init klp_test_incomplete_init(void)
{
	memset(klp_long_name, 'x', KSYM_NAME_LEN);
	if (!strcmp(lacks, "patch"))
		return klp_enable_patch(NULL);
	klp_incomplete_patch.replace = replace;
	/* In a module that is not there nobody looks for the name. */
	if (!strcmp(lacks, "short_name"))
		klp_incomplete_objs[0].name = "klp_absent";
	if (!strcmp(lacks, "mod"))
		klp_incomplete_patch.mod = NULL;
	else if (!strcmp(lacks, "objs"))
		klp_incomplete_patch.objs = NULL;
	else if (!strcmp(lacks, "funcs"))
		klp_incomplete_objs[0] = (struct klp_object){ .name = "klp_target_mod" };
	else if (!strcmp(lacks, "objects"))
		klp_incomplete_objs[0] = (struct klp_object){ };
	else if (!strcmp(lacks, "all"))
		klp_incomplete_funcs[0] = (struct klp_func){ .old_sympos = 1 };
	else if (!strcmp(lacks, "old_name"))
		klp_incomplete_funcs[0].old_name = NULL;
	else if (!strcmp(lacks, "new_func"))
		klp_incomplete_funcs[0].new_func = NULL;
	else if (!strcmp(lacks, "text"))
		klp_incomplete_funcs[0].new_func = (void *)1;
	else if (!strcmp(lacks, "short_name"))
		klp_incomplete_funcs[0].old_name = klp_long_name;
	else if (!strcmp(lacks, "short_object"))
		klp_incomplete_objs[0].name = klp_long_name;
	else if (!strcmp(lacks, "zeroes"))
		klp_incomplete_dirty();
	else if (strcmp(lacks, "nothing"))
		return -ENOTSUPP;
	return klp_enable_patch(&klp_incomplete_patch);
}

static void __exit klp_test_incomplete_exit(void)
{
}

module_init(klp_test_incomplete_init);
module_exit(klp_test_incomplete_exit);
MODULE_DESCRIPTION("Livepatch test: a livepatch that lacks something");
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");
