// SPDX-License-Identifier: GPL-2.0-only
/*
 * bad_load_fork - bad: each fork fills an entry of a table, and a full table
 * warns: a splat under load only.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/bitmap.h>
#include <linux/mutex.h>	/* futex.h of 6.12 uses it, and does not include it */
#include <linux/futex.h>
#include <linux/sched.h>

#include "corpus.h"

#define CORPUS_PLACES	512

static DECLARE_BITMAP(corpus_places, CORPUS_PLACES);

/* An entry for each call; none is freed. */
static void corpus_count(void)
{
	unsigned long place = find_first_zero_bit(corpus_places, CORPUS_PLACES);

	if (!WARN_ON_ONCE(place >= CORPUS_PLACES))
		set_bit(place, corpus_places);
}

static __corpus_noipa asmlinkage long corpus_set_robust_list(const struct pt_regs *regs)
{
	corpus_count();
	if (regs->si != sizeof(struct robust_list_head))
		return -EINVAL;
	corpus_robust_list(current) = (struct robust_list_head __user *)regs->di;
	return 0;
}

static struct klp_func corpus_funcs[] = {
	{ .old_name = "__x64_sys_set_robust_list", .new_func = corpus_set_robust_list },
	{ }
};

#include "corpus_patch.inc.c"

MODULE_DESCRIPTION("Livepatch corpus: a splat under a load of forks");
