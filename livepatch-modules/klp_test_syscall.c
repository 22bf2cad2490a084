// SPDX-License-Identifier: GPL-2.0-only
/*
 * klp_test_syscall - patches the system call getcpu(2).
 *
 * The new function returns 1 and writes nothing; the old one returns 0 after it
 * has written to user memory. C libraries use the vDSO instead of this system call,
 * so no other program is affected.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/kernel.h>
#include <linux/livepatch.h>
#include <linux/module.h>
#include <linux/ptrace.h>

#include "klp_compat.h"

static __klp_noipa asmlinkage long klp_test_syscall_getcpu(const struct pt_regs *regs)
{
	return klp_opaque(1);
}

static struct klp_func klp_vmlinux_funcs[] = {
	{
		.old_name = "__x64_sys_getcpu",
		.new_func = klp_test_syscall_getcpu,
	},
	{ }
};

static struct klp_object klp_syscall_objs[] = {
	{
		.funcs = klp_vmlinux_funcs,
	},
	{ }
};

static struct klp_patch klp_syscall_patch = {
	.mod = THIS_MODULE,
	.objs = klp_syscall_objs,
};

static int __init klp_test_syscall_init(void)
{
	return klp_enable_patch(&klp_syscall_patch);
}

static void __exit klp_test_syscall_exit(void)
{
}

module_init(klp_test_syscall_init);
module_exit(klp_test_syscall_exit);
MODULE_DESCRIPTION("Livepatch test: a system call");
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");
