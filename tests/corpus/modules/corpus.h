/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the modules of the corpus share. A livepatch includes this first, says
 * what it patches, and includes corpus_patch.h last.
 */

#ifndef CORPUS_H
#define CORPUS_H

#include <linux/kernel.h>
#include <linux/livepatch.h>
#include <linux/module.h>
#include <linux/slab.h>

/* A function that is patched, or that replaces one: neither inlined, nor cloned, nor folded. */
#if __has_attribute(__noipa__)
# define __corpus_noipa	__attribute__((__noipa__))
#else
# define __corpus_noipa	noinline
#endif

/* A task's list of robust futexes: what a task has for futexes got a struct of its own. */
#if __has_include("linux/futex_types.h")
# define corpus_robust_list(task)	((task)->futex.robust_list)
#else
# define corpus_robust_list(task)	((task)->robust_list)
#endif

#endif /* CORPUS_H */
