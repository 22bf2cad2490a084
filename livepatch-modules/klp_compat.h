/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What differs between the kernels and compilers these modules are built with.
 *
 * Every difference belongs here, probed as a feature; no other file looks at a version.
 */

#ifndef KLP_COMPAT_H
#define KLP_COMPAT_H

#include <linux/compiler.h>
#include <linux/sched.h>

/*
 * A function that is patched, or that replaces one. Besides inlining, the
 * compiler could clone it, fold it with another of the same body (ICF), or let
 * its caller count on the value it returns: then the old body would show where
 * the new one had run. gcc has one attribute against all of that, inlining
 * included.
 */
#if __has_attribute(__noipa__)
# define __klp_noipa	__attribute__((__noipa__))
#else
# define __klp_noipa	noinline
#endif

/* Older than 5.14, "sched: Introduce task_is_running()". */
#ifndef task_is_running
# define task_is_running(task)	(READ_ONCE((task)->state) == TASK_RUNNING)
#endif

#endif /* KLP_COMPAT_H */
