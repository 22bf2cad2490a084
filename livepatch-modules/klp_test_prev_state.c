// SPDX-License-Identifier: GPL-2.0-only
/*
 * klp_test_prev_state - asks for system state 1 of the livepatches (no livepatch itself).
 *
 * Its init calls klp_get_prev_state() (kernel/livepatch/state.c), which is meant
 * for the callbacks of a livepatch in transition, and logs one of
 *
 *	prev state version=N
 *	prev state none
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/kernel.h>
#include <linux/livepatch.h>
#include <linux/module.h>

#define KLP_TEST_STATE_ID	1	/* as in klp_state_patch.inc.c */

static int __init klp_prev_state_init(void)
{
	struct klp_state *state = klp_get_prev_state(KLP_TEST_STATE_ID);

	if (state)
		pr_info("prev state version=%u\n", state->version);
	else
		pr_info("prev state none\n");
	return 0;
}

static void __exit klp_prev_state_exit(void)
{
}

module_init(klp_prev_state_init);
module_exit(klp_prev_state_exit);
MODULE_DESCRIPTION("Livepatch test: asks for the system state of a livepatch");
MODULE_LICENSE("GPL");
