/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Differences between the kernels and compilers that these modules are built with.
 *
 * All of them belong here, probed as features and not by a version.
 *
 * checkpatch: ignore PREFER_DEFINED_ATTRIBUTE_MACRO: __cold may be empty
 */

#ifndef KLP_COMPAT_H
#define KLP_COMPAT_H

#include <linux/compiler.h>
#include <linux/sched.h>

/*
 * For a function that is patched, or that replaces one. The compiler could
 * inline it, clone it, merge it with another of the same code (ICF), or have its
 * caller assume the value that it returns: then the old value would be seen
 * where the new function had run. noipa prevents all of that.
 */
#if __has_attribute(__noipa__)
# define __klp_noipa	__attribute__((__noipa__))
#else
# define __klp_noipa	noinline
#endif

/*
 * For a function that is seldom called: GCC puts a branch that calls it into
 * .text.unlikely. The kernel's own macro may be empty, since functions lose their
 * alignment by it (include/linux/compiler_types.h).
 */
#define __klp_cold	__attribute__((__cold__))

/* Older than 5.14, "sched: Introduce task_is_running()". */
#ifndef task_is_running
# define task_is_running(task)	(READ_ONCE((task)->state) == TASK_RUNNING)
#endif

#endif /* KLP_COMPAT_H */
