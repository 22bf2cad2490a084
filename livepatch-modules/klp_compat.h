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
#include <linux/ftrace.h>
#include <linux/irq_work.h>
#include <linux/linkage.h>
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
 * What such a function returns or is given: clang has no noipa, and would put
 * constants in their places.
 */
#define klp_opaque(value)			\
({						\
	__auto_type __value = (value);		\
						\
	OPTIMIZER_HIDE_VAR(__value);		\
	__value;				\
})

/*
 * For a function that is seldom called: GCC puts a branch that calls it into
 * .text.unlikely. The kernel's own macro may be empty, since functions lose their
 * alignment by it (include/linux/compiler_types.h).
 */
#define __klp_cold	__attribute__((__cold__))

/*
 * Older than 6.16, which also adds "_tp" to the functions that DECLARE_TRACE()
 * makes; this one keeps their names.
 */
#if defined(DECLARE_TRACE) && !defined(DECLARE_TRACE_EVENT)
# define DECLARE_TRACE_EVENT	DECLARE_TRACE
#endif

/* Older than 5.14, "sched: Introduce task_is_running()". */
#ifndef task_is_running
# define task_is_running(task)	(READ_ONCE((task)->state) == TASK_RUNNING)
#endif

/*
 * Older than 5.11, handlers of ftrace get other registers, and ftrace guards them
 * against recursion: they do not have to.
 */
#if __has_include("linux/trace_recursion.h")
# include <linux/trace_recursion.h>
# define KLP_HANDLERS_TAKE_GUARD	1
#else
# define KLP_HANDLERS_TAKE_GUARD	0
# define ftrace_regs	pt_regs
static inline int ftrace_test_recursion_trylock(unsigned long ip, unsigned long parent_ip)
{
	return 0;
}

static inline void ftrace_test_recursion_unlock(int bit)
{
}
#endif

/*
 * Work that runs in an interrupt, with PREEMPT_RT as well: there other work is a
 * thread's. Older than 5.11: these kernels have no PREEMPT_RT of their own.
 */
#ifdef IRQ_WORK_INIT_HARD
# define klp_init_hard_irq_work(work, handler)	(*(work) = IRQ_WORK_INIT_HARD(handler))
#else
# define klp_init_hard_irq_work(work, handler)	init_irq_work(work, handler)
#endif

/* Where an indirect branch may lead. Older than 5.18: there is no such mark. */
#ifdef ASM_ENDBR
# define KLP_ENDBR	ASM_ENDBR
#else
# define KLP_ENDBR
#endif

/*
 * Return where a function that is hooked goes on behind the call of ftrace. With
 * CONFIG_X86_KERNEL_IBT the mark above, or the nop that it was turned into, may
 * stand before that call.
 */
static inline void *klp_behind_hook(void *function)
{
	const unsigned char call = 0xe8;
	const unsigned int mark_size = 4;
	unsigned char *hook = function;

	if (hook[0] != call && hook[mark_size] == call)
		hook += mark_size;
	return hook + MCOUNT_INSN_SIZE;
}

#endif /* KLP_COMPAT_H */
