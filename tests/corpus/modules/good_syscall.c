// SPDX-License-Identifier: GPL-2.0-only
/*
 * good_syscall - good: a system call that every load makes often.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/pid.h>
#include <linux/sched.h>

#include "corpus.h"

static __corpus_noipa asmlinkage long corpus_getpid(const struct pt_regs *regs)
{
	return task_tgid_vnr(current);
}

static struct klp_func corpus_funcs[] = {
	{ .old_name = "__x64_sys_getpid", .new_func = corpus_getpid },
	{ }
};

#include "corpus_patch.inc.c"

MODULE_DESCRIPTION("Livepatch corpus: a busy system call");
