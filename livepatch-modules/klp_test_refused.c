// SPDX-License-Identifier: GPL-2.0-only
/*
 * klp_test_refused - a livepatch that the kernel refuses, in memory of its own.
 *
 * It allocates its klp_patch, with an object whose name no module can have, and
 * another one with KLP_REFUSED_FUNCS functions. klp_enable_patch() fails with
 * EINVAL before it has looked at these. Then the memory is freed, as patches do
 * that kpatch-build makes.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/kernel.h>
#include <linux/livepatch.h>
#include <linux/module.h>
#include <linux/slab.h>

#define KLP_REFUSED_FUNCS	100

struct klp_refused {
	struct klp_patch patch;
	struct klp_object objs[3];
	struct klp_func none[1];
	struct klp_func funcs[KLP_REFUSED_FUNCS + 1];
	char name[MODULE_NAME_LEN + 1];
};

static int klp_test_refused_func(void)
{
	return 0;
}

static int __init klp_test_refused_init(void)
{
	struct klp_refused *refused;
	int ret, i;

	refused = kzalloc(sizeof(*refused), GFP_KERNEL);
	if (!refused)
		return -ENOMEM;

	memset(refused->name, 'x', MODULE_NAME_LEN);
	refused->patch.mod = THIS_MODULE;
	refused->patch.objs = refused->objs;
	refused->objs[0].name = refused->name;
	refused->objs[0].funcs = refused->none;
	refused->objs[1].funcs = refused->funcs;
	for (i = 0; i < KLP_REFUSED_FUNCS; i++) {
		refused->funcs[i].old_name = "cmdline_proc_show";
		refused->funcs[i].new_func = klp_test_refused_func;
	}

	ret = klp_enable_patch(&refused->patch);
	kfree(refused);
	return ret ?: -EEXIST;
}

static void __exit klp_test_refused_exit(void)
{
}

module_init(klp_test_refused_init);
module_exit(klp_test_refused_exit);
MODULE_DESCRIPTION("Livepatch test: a livepatch that is refused, and freed");
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");
