/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Shared by the modules of the corpus. A livepatch includes this first, defines
 * what it patches, and includes corpus_patch.inc.c last.
 */

#ifndef CORPUS_H
#define CORPUS_H

#include <linux/kernel.h>
#include <linux/livepatch.h>
#include <linux/module.h>
#include <linux/slab.h>

/* For a function that is patched, or that replaces one: not inlined, cloned or merged. */
#if __has_attribute(__noipa__)
# define __corpus_noipa	__attribute__((__noipa__))
#else
# define __corpus_noipa	noinline
#endif

/* A task's list of robust futexes, which newer kernels have in a struct of its own. */
#if __has_include("linux/futex_types.h")
# define corpus_robust_list(task)	((task)->futex.robust_list)
#else
# define corpus_robust_list(task)	((task)->robust_list)
#endif

#endif /* CORPUS_H */
