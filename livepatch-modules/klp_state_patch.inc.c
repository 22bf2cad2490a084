// SPDX-License-Identifier: GPL-2.0-only
/*
 * The code of a cumulative livepatch with version KLP_STATE_VERSION of a system
 * state (Documentation/livepatch/system-state.rst), whose data are passed from
 * patch to patch.
 *
 * The callbacks of vmlinux log, with n for the version of this patch, p for that
 * of the patch it replaces, and u for how many patches have used the data:
 *
 *	state allocated version=n		pre_patch, no patch has it
 *	state found version=p			pre_patch, a patch has it
 *	state set version=n users=1		post_patch, after "allocated"
 *	state taken from=p to=n users=u		post_patch, after "found"
 *	state restored version=n users=u	pre_unpatch
 *	state freed version=n			post_unpatch, no patch has it any more
 *	state kept version=p			post_unpatch, a patch below has it, or the atomic
 *						replace was reversed
 *
 * Parameters: replace (bool), default on; ask (uint), an id of a state: pre_patch
 * logs "asked for 7: none", or "asked for 1: version=n" for that of this patch, and
 * "asked below for 7: none", or "asked below for 1: version=p", for the patches that
 * are there already. Before that it logs "asked of no states: none", since a patch
 * without any has none of that id. lacks (bool): the patch has the other state alone;
 * one that is to be loaded has pre_patch fail with EINVAL.
 */

#include <linux/kernel.h>
#include <linux/livepatch.h>
#include <linux/module.h>
#include <linux/slab.h>

#define KLP_TEST_STATE_ID	1
#define KLP_TEST_OTHER_STATE_ID	2

static bool replace = true;
module_param(replace, bool, 0444);
MODULE_PARM_DESC(replace, "Replace all other patches (default on)");

static unsigned int ask;
module_param(ask, uint, 0444);
MODULE_PARM_DESC(ask, "Id of the state to ask for (default: none)");

static bool lacks;
module_param(lacks, bool, 0444);
MODULE_PARM_DESC(lacks, "Do without the state that is passed on (default off)");

struct klp_test_state_data {
	unsigned int users;
};

static struct klp_patch klp_state_patch;

static void klp_state_answer(const char *asked, const struct klp_state *state)
{
	if (state)
		pr_info("asked %s %u: version=%u\n", asked, ask, state->version);
	else
		pr_info("asked %s %u: none\n", asked, ask);
}

static void klp_state_ask(void)
{
	static struct klp_patch without;

	if (!klp_get_state(&without, ask))
		pr_info("asked of no states: none\n");
	klp_state_answer("for", klp_get_state(&klp_state_patch, ask));
	klp_state_answer("below for", klp_get_prev_state(ask));
}

static int klp_state_pre_patch(struct klp_object *obj)
{
	struct klp_state *state = klp_get_state(&klp_state_patch, KLP_TEST_STATE_ID);
	struct klp_state *prev = klp_get_prev_state(KLP_TEST_STATE_ID);
	struct klp_test_state_data *data;

	if (!state)
		return -EINVAL;
	if (ask)
		klp_state_ask();

	if (prev) {
		pr_info("state found version=%u\n", prev->version);
		return 0;
	}

	data = kzalloc(sizeof(*data), GFP_KERNEL);
	if (!data)
		return -ENOMEM;
	state->data = data;
	pr_info("state allocated version=%u\n", state->version);
	return 0;
}

static void klp_state_post_patch(struct klp_object *obj)
{
	struct klp_state *state = klp_get_state(&klp_state_patch, KLP_TEST_STATE_ID);
	struct klp_state *prev = klp_get_prev_state(KLP_TEST_STATE_ID);
	struct klp_test_state_data *data;

	if (prev)
		state->data = prev->data;
	data = state->data;
	data->users++;

	if (prev)
		pr_info("state taken from=%u to=%u users=%u\n", prev->version, state->version,
			data->users);
	else
		pr_info("state set version=%u users=%u\n", state->version, data->users);
}

static void klp_state_pre_unpatch(struct klp_object *obj)
{
	struct klp_state *state = klp_get_state(&klp_state_patch, KLP_TEST_STATE_ID);
	struct klp_test_state_data *data = state->data;

	pr_info("state restored version=%u users=%u\n", state->version, data->users);
}

static void klp_state_post_unpatch(struct klp_object *obj)
{
	struct klp_state *state = klp_get_state(&klp_state_patch, KLP_TEST_STATE_ID);
	struct klp_state *prev = klp_get_prev_state(KLP_TEST_STATE_ID);

	if (prev) {
		pr_info("state kept version=%u\n", prev->version);
		return;
	}
	kfree(state->data);
	state->data = NULL;
	pr_info("state freed version=%u\n", state->version);
}

static struct klp_func klp_no_funcs[] = {
	{ }
};

static struct klp_object klp_state_objs[] = {
	{
		.funcs = klp_no_funcs,
		.callbacks = {
			.pre_patch = klp_state_pre_patch,
			.post_patch = klp_state_post_patch,
			.pre_unpatch = klp_state_pre_unpatch,
			.post_unpatch = klp_state_post_unpatch,
		},
	},
	{ }
};

static struct klp_state klp_states[] = {
	/* One more, which is passed over by whoever looks for the other. */
	{
		.id = KLP_TEST_OTHER_STATE_ID,
		.version = KLP_STATE_VERSION,
	},
	{
		.id = KLP_TEST_STATE_ID,
		.version = KLP_STATE_VERSION,
	},
	{ }
};

static struct klp_patch klp_state_patch = {
	.mod = THIS_MODULE,
	.objs = klp_state_objs,
	.states = klp_states,
};

static int __init klp_state_init(void)
{
	klp_state_patch.replace = replace;
	if (lacks)
		klp_states[1].id = 0;
	return klp_enable_patch(&klp_state_patch);
}

static void __exit klp_state_exit(void)
{
}

module_init(klp_state_init);
module_exit(klp_state_exit);
MODULE_DESCRIPTION("Livepatch test: a system state passed from patch to patch");
MODULE_LICENSE("GPL");
