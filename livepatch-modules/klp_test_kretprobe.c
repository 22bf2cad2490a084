// SPDX-License-Identifier: GPL-2.0-only
/*
 * klp_test_kretprobe - a kretprobe on a function while the module is loaded. No livepatch.
 *
 * A probed function returns through the trampoline of kretprobes: the stack of a
 * task inside it has the trampoline in place of the caller.
 *
 * Parameter: function, the one to probe.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/kernel.h>
#include <linux/kprobes.h>
#include <linux/module.h>

static char *function = "";
module_param(function, charp, 0444);
MODULE_PARM_DESC(function, "Function to be probed");

static int klp_kretprobe_returned(struct kretprobe_instance *instance, struct pt_regs *regs)
{
	return 0;
}

static struct kretprobe klp_kretprobe = {
	.handler = klp_kretprobe_returned,
	.maxactive = 16,
};

static int __init klp_test_kretprobe_init(void)
{
	klp_kretprobe.kp.symbol_name = function;
	return register_kretprobe(&klp_kretprobe);
}

static void __exit klp_test_kretprobe_exit(void)
{
	unregister_kretprobe(&klp_kretprobe);
}

module_init(klp_test_kretprobe_init);
module_exit(klp_test_kretprobe_exit);
MODULE_DESCRIPTION("Livepatch test: a kretprobe beside a livepatch");
MODULE_LICENSE("GPL");
