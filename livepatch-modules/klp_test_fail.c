// SPDX-License-Identifier: GPL-2.0-only
/*
 * klp_test_fail - makes one call of a function fail. No livepatch.
 *
 * A kprobe has the function return at once, with "value". Only calls count that
 * are made from functions of the kernel whose names begin with "caller". Which of
 * them fails is written to "nth", and counting begins anew then.
 *
 * Parameters: symbol, caller, value, nth; calls, how many there were since; failed,
 * how many of them failed.
 *
 * checkpatch: ignore AVOID_EXTERNS: defined below, in assembly
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/kallsyms.h>
#include <linux/kernel.h>
#include <linux/kprobes.h>
#include <linux/linkage.h>
#include <linux/module.h>
#include <linux/string.h>

#include "klp_compat.h"

static char *symbol = "";
module_param(symbol, charp, 0444);
MODULE_PARM_DESC(symbol, "Function a call of which fails");

static char *caller = "klp_";
module_param(caller, charp, 0444);
MODULE_PARM_DESC(caller, "How the names of the callers begin (default klp_)");

static long value;
module_param(value, long, 0444);
MODULE_PARM_DESC(value, "What the call returns that fails (default 0)");

static unsigned int calls;
module_param(calls, uint, 0444);
MODULE_PARM_DESC(calls, "How many calls there were");

static unsigned int failed;
module_param(failed, uint, 0444);
MODULE_PARM_DESC(failed, "How many of them failed");

static unsigned int nth;

static int nth_set(const char *text, const struct kernel_param *kp)
{
	calls = 0;
	failed = 0;
	return param_set_uint(text, kp);
}

static const struct kernel_param_ops nth_ops = {
	.set = nth_set,
	.get = param_get_uint,
};
module_param_cb(nth, &nth_ops, &nth, 0644);
MODULE_PARM_DESC(nth, "The call that fails (default 0: none)");

/* Where the function goes on in place of its own code. */
asm("	.pushsection .text\n"
"	.type klp_fail_return, @function\n"
"klp_fail_return:\n"
	KLP_ENDBR
"	" ASM_RET
"	.size klp_fail_return, .-klp_fail_return\n"
"	.popsection\n");

extern void klp_fail_return(void);

static int klp_fail_pre(struct kprobe *p, struct pt_regs *regs)
{
	unsigned long from = *(unsigned long *)regs->sp;
	char name[KSYM_SYMBOL_LEN];

	if (!nth)
		return 0;
	/* The call may be the last instruction of the caller. */
	snprintf(name, sizeof(name), "%ps", (void *)(from - 1));
	/* Those of modules end in the module's name. */
	if (strncmp(name, caller, strlen(caller)) || strchr(name, '['))
		return 0;
	if (++calls != nth)
		return 0;
	failed++;
	regs->ax = value;
	regs->ip = (unsigned long)klp_fail_return;
	return 1;
}

/* ftrace lets a kprobe change regs->ip that has one (Documentation/trace/kprobes.rst). */
static void klp_fail_post(struct kprobe *p, struct pt_regs *regs, unsigned long flags)
{
}

static struct kprobe klp_fail = {
	.pre_handler = klp_fail_pre,
	.post_handler = klp_fail_post,
};

static int __init klp_test_fail_init(void)
{
	klp_fail.symbol_name = symbol;
	return register_kprobe(&klp_fail);
}

static void __exit klp_test_fail_exit(void)
{
	unregister_kprobe(&klp_fail);
}

module_init(klp_test_fail_init);
module_exit(klp_test_fail_exit);
MODULE_DESCRIPTION("Livepatch test: a call that fails");
MODULE_LICENSE("GPL");
