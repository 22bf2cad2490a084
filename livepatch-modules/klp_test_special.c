// SPDX-License-Identifier: GPL-2.0-only
/*
 * klp_test_special - patches klp_special_use() of klp_target_special, and uses a
 * static key, a static call and the like in its new body (klp_special_use.inc.c).
 *
 * pre_patch, which runs before the target's init when the target is loaded later,
 * logs two lines. "target " and what the original writes: it calls that in the
 * target's text. "patch " and what this module's own write, after it has switched
 * them on. The new body shows the latter.
 *
 * Parameter: warn, see klp_special_use.inc.c.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/livepatch.h>
#include <linux/slab.h>

#include "klp_special_use.inc.c"

static bool klp_special_on;	/* callbacks have the livepatch lock */

static __klp_noipa int klp_test_special_use(char *buf, bool warns)
{
	int len = klp_special_show(buf, warns);

	barrier();
	return len;
}

static struct klp_func klp_special_funcs[] = {
	{
		.old_name = "klp_special_use",
		.new_func = klp_test_special_use,
	},
	{ }
};

static int klp_special_pre_patch(struct klp_object *obj)
{
	int (*original)(char *buf, bool warns) = klp_special_funcs[0].old_func;
	char *line = (char *)get_zeroed_page(GFP_KERNEL);
	int ret = 0;

	if (!line)
		return -ENOMEM;
	original(line, warn);
	pr_info("target %s", line);
	if (!klp_special_on)
		ret = klp_special_switch(true);
	klp_special_on = true;
	klp_special_show(line, warn);
	pr_info("patch %s", line);
	free_page((unsigned long)line);
	return ret;
}

static struct klp_object klp_special_objs[] = {
	{
		.name = "klp_target_special",
		.funcs = klp_special_funcs,
		.callbacks = {
			.pre_patch = klp_special_pre_patch,
		},
	},
	{ }
};

static struct klp_patch klp_special_patch = {
	.mod = THIS_MODULE,
	.objs = klp_special_objs,
};

static int __init klp_test_special_init(void)
{
	return klp_enable_patch(&klp_special_patch);
}

static void __exit klp_test_special_exit(void)
{
	if (klp_special_on)
		klp_special_switch(false);
}

module_init(klp_test_special_init);
module_exit(klp_test_special_exit);
MODULE_DESCRIPTION("Livepatch test: sections that the kernel patches, in a livepatch");
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");
