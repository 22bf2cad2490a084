// SPDX-License-Identifier: GPL-2.0-only
/*
 * klp_test_nomem - patches schedule_on_each_cpu(), which has no memory when it is told so.
 *
 * The new function calls the original behind its ftrace hook. While "fail" is
 * not 0, a call from klp_synchronize_transition(), which passes klp_sync(),
 * counts that down and returns -ENOMEM instead.
 *
 * Parameters: fail, so many calls fail; failed, how many did.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/ftrace.h>
#include <linux/kernel.h>
#include <linux/livepatch.h>
#include <linux/module.h>
#include <linux/string.h>
#include <linux/workqueue.h>

#include "klp_compat.h"

static unsigned int fail;
module_param(fail, uint, 0644);
MODULE_PARM_DESC(fail, "So many calls fail (default 0)");

static unsigned int failed;
module_param(failed, uint, 0444);
MODULE_PARM_DESC(failed, "How many calls failed");

static __klp_noipa int klp_test_nomem_schedule(work_func_t func);

static struct klp_func klp_nomem_funcs[] = {
	{
		.old_name = "schedule_on_each_cpu",
		.new_func = klp_test_nomem_schedule,
	},
	{ }
};

static int klp_test_nomem_schedule(work_func_t func)
{
	int (*original)(work_func_t func) = klp_behind_hook(klp_nomem_funcs[0].old_func);
	char name[sizeof("klp_sync")];
	int ret;

	if (READ_ONCE(fail)) {
		snprintf(name, sizeof(name), "%ps", func);
		if (!strcmp(name, "klp_sync")) {
			fail--;
			failed++;
			return -ENOMEM;
		}
	}
	ret = original(func);
	barrier();
	return ret;
}

static struct klp_object klp_nomem_objs[] = {
	{
		.funcs = klp_nomem_funcs,
	},
	{ }
};

static struct klp_patch klp_nomem_patch = {
	.mod = THIS_MODULE,
	.objs = klp_nomem_objs,
};

static int __init klp_test_nomem_init(void)
{
	return klp_enable_patch(&klp_nomem_patch);
}

static void __exit klp_test_nomem_exit(void)
{
}

module_init(klp_test_nomem_init);
module_exit(klp_test_nomem_exit);
MODULE_DESCRIPTION("Livepatch test: schedule_on_each_cpu() without memory");
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");
