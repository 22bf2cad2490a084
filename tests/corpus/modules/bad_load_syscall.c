// SPDX-License-Identifier: GPL-2.0-only
/*
 * bad_load_syscall - bad: each call of a busy system call fills an entry of a table,
 * and a full table warns: a splat under load only.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/bitmap.h>
#include <linux/pid.h>
#include <linux/sched.h>

#include "corpus.h"

#define CORPUS_PLACES	4096

static DECLARE_BITMAP(corpus_places, CORPUS_PLACES);

/* An entry for each call; none is freed. */
static void corpus_count(void)
{
	unsigned long place = find_first_zero_bit(corpus_places, CORPUS_PLACES);

	if (!WARN_ON_ONCE(place >= CORPUS_PLACES))
		set_bit(place, corpus_places);
}

static __corpus_noipa asmlinkage long corpus_getpid(const struct pt_regs *regs)
{
	corpus_count();
	return task_tgid_vnr(current);
}

static struct klp_func corpus_funcs[] = {
	{ .old_name = "__x64_sys_getpid", .new_func = corpus_getpid },
	{ }
};

#include "corpus_patch.inc.c"

MODULE_DESCRIPTION("Livepatch corpus: a splat under a load of system calls");
