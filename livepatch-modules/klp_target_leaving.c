// SPDX-License-Identifier: GPL-2.0-only
/*
 * klp_target_leaving - a target module whose unload waits in gate 5.
 *
 * With gate 5 closed, the module is in state GOING until the gate is opened. The
 * log has "init sees: TEXT" and "exit sees: TEXT", what klp_leaving_text()
 * returned there.
 *
 * Parameter: late (bool), exit does not wait itself, but schedules an async
 * function that does. The kernel waits for that after klp_module_going().
 *
 * klp_target_gate has to be loaded first.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/async.h>
#include <linux/kernel.h>
#include <linux/module.h>

#include "klp_compat.h"
#include "klp_gate.h"

#define KLP_LEAVING_GATE	5

static bool late;
module_param(late, bool, 0444);
MODULE_PARM_DESC(late, "Wait after klp_module_going() instead of in exit (default off)");

static __klp_noipa const char *klp_leaving_text(void)
{
	return klp_opaque("original");
}

static int __init klp_target_leaving_init(void)
{
	pr_info("init sees: %s\n", klp_leaving_text());
	return 0;
}

static void klp_leaving_wait(void *unused, async_cookie_t cookie)
{
	klp_gate_sleep(KLP_LEAVING_GATE);
}

static void __exit klp_target_leaving_exit(void)
{
	if (late)
		async_schedule(klp_leaving_wait, NULL);
	else
		klp_gate_sleep(KLP_LEAVING_GATE);
	pr_info("exit sees: %s\n", klp_leaving_text());
}

module_init(klp_target_leaving_init);
module_exit(klp_target_leaving_exit);
MODULE_DESCRIPTION("Livepatch test target: a module whose exit waits in a gate");
MODULE_LICENSE("GPL");
