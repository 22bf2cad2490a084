// SPDX-License-Identifier: GPL-2.0-only
/*
 * What a module has in sections that the kernel patches, sorts or registers when it
 * is loaded: a static key, a static call, a tracepoint, an alternative instruction,
 * an entry of the exception table, and a WARN().
 *
 * klp_special_show() uses all of them and writes a line, such as
 *
 *	key=off vmlinux=off call=1 trace=0 alternative=2 table=7
 *
 *	key		whether the static key is on
 *	vmlinux		whether one of vmlinux is on, which init_on_alloc=1 on the
 *			kernel's command line switches on
 *	call		what the static call returned, 1 or 2
 *	trace		how often the probe of the tracepoint ran in this call
 *	alternative	1 where the instruction was not replaced, 2 where it was
 *	table		7 after a read from a page that does not exist
 *
 * klp_special_switch() sets key, call and trace. The WARN() is for callers that ask for
 * it, as they do with the parameter warn. A target's parameters are not known yet
 * when pre_patch runs.
 *
 * Parameter: warn (bool), can be changed.
 */

#include <linux/bug.h>
#include <linux/jump_label.h>
#include <linux/kernel.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/static_call.h>
#include <linux/sysfs.h>
#include <linux/tracepoint.h>

#include <asm/alternative.h>
#include <asm/asm.h>
#include <asm/cpufeatures.h>

#include "klp_compat.h"

#define KLP_SPECIAL_NO_PAGE	((void *)-PAGE_SIZE)	/* of error pointers */
#define KLP_SPECIAL_UNREAD	7

static bool warn;
module_param(warn, bool, 0644);
MODULE_PARM_DESC(warn, "Warn at each call (default off)");

static DEFINE_STATIC_KEY_FALSE(klp_special_key);

static int klp_special_first(void)
{
	return 1;
}

static int klp_special_second(void)
{
	return 2;
}

DEFINE_STATIC_CALL(klp_special_call, klp_special_first);

DECLARE_TRACE_EVENT(klp_special_event, TP_PROTO(unsigned int *calls), TP_ARGS(calls));
DEFINE_TRACE(klp_special_event, TP_PROTO(unsigned int *calls), TP_ARGS(calls));

static void klp_special_probe(void *unused, unsigned int *calls)
{
	(*calls)++;
}

static int klp_special_show(char *buf, bool warns)
{
	unsigned int traced = 0, alternative, table = KLP_SPECIAL_UNREAD;

	WARN(warns, "warning of a special section\n");
	trace_klp_special_event(&traced);
	alternative_io("movl $1, %0", "movl $2, %0", X86_FEATURE_ALWAYS, "=r"(alternative));
	asm volatile("1: movl (%1), %0\n"
		     "2:\n"
		     _ASM_EXTABLE(1b, 2b)
		     : "+r"(table)
		     : "r"(KLP_SPECIAL_NO_PAGE));
	return sysfs_emit(buf, "key=%s vmlinux=%s call=%d trace=%u alternative=%u table=%u\n",
			  static_branch_unlikely(&klp_special_key) ? "on" : "off",
			  static_branch_unlikely(&init_on_alloc) ? "on" : "off",
			  static_call(klp_special_call)(), traced, alternative, table);
}

/* Returns a negative errno when the tracepoint refuses. */
static int klp_special_switch(bool on)
{
	int ret = 0;

	if (on) {
		static_branch_enable(&klp_special_key);
		static_call_update(klp_special_call, klp_special_second);
		ret = register_trace_klp_special_event(klp_special_probe, NULL);
	} else {
		static_branch_disable(&klp_special_key);
		static_call_update(klp_special_call, klp_special_first);
		unregister_trace_klp_special_event(klp_special_probe, NULL);
		tracepoint_synchronize_unregister();
	}
	return ret;
}
