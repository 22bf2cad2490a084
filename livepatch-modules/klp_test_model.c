// SPDX-License-Identifier: GPL-2.0-only
/*
 * klp_test_model - patches both functions of klp_target_model, then one of vmlinux.
 *
 * The new functions return "new". /proc/cmdline, whose function is that of the
 * second object, shows "new" as well. The pre_patch callback of that object sleeps
 * in gate 6: with the gate closed, the functions of the first object have been
 * registered with ftrace, that of the second has not, and the transition has not
 * started.
 *
 * klp_target_gate and klp_target_model have to be loaded first.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/kernel.h>
#include <linux/livepatch.h>
#include <linux/module.h>
#include <linux/seq_file.h>

#include "klp_compat.h"
#include "klp_gate.h"
#include "klp_model.h"

#define KLP_BETWEEN_GATE	6

static __klp_noipa const char *klp_test_model_inner(void)
{
	return klp_opaque("new");
}

/* Calls the function by its name: ftrace decides which version runs. */
static __klp_noipa void klp_test_model_outer(struct klp_model_call *call)
{
	call->outer = "new";
	if (call->gate != KLP_MODEL_NO_GATE)
		klp_gate_sleep(call->gate);
	call->inner = klp_model_inner();
}

static __klp_noipa int klp_test_model_cmdline(struct seq_file *m, void *v)
{
	seq_puts(m, "new\n");
	return 0;
}

static int klp_between_objects(struct klp_object *obj)
{
	klp_gate_sleep(KLP_BETWEEN_GATE);
	return 0;
}

static struct klp_func klp_model_funcs[] = {
	{
		.old_name = "klp_model_outer",
		.new_func = klp_test_model_outer,
	},
	{
		.old_name = "klp_model_inner",
		.new_func = klp_test_model_inner,
	},
	{ }
};

static struct klp_func klp_vmlinux_funcs[] = {
	{
		.old_name = "cmdline_proc_show",
		.new_func = klp_test_model_cmdline,
	},
	{ }
};

static struct klp_object klp_model_objs[] = {
	{
		.name = "klp_target_model",
		.funcs = klp_model_funcs,
	},
	{
		.funcs = klp_vmlinux_funcs,
		.callbacks = {
			.pre_patch = klp_between_objects,
		},
	},
	{ }
};

static struct klp_patch klp_model_patch = {
	.mod = THIS_MODULE,
	.objs = klp_model_objs,
};

static int __init klp_test_model_init(void)
{
	return klp_enable_patch(&klp_model_patch);
}

static void __exit klp_test_model_exit(void)
{
}

module_init(klp_test_model_init);
module_exit(klp_test_model_exit);
MODULE_DESCRIPTION("Livepatch test: the functions of klp_target_model, and one of vmlinux");
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");
