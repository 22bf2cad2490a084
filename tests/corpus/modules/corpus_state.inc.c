// SPDX-License-Identifier: GPL-2.0-only
/*
 * The code of a cumulative livepatch of cmdline_proc_show() with version
 * CORPUS_VERSION of a state, whose data are passed from patch to patch.
 */

#include "corpus.h"
#include "corpus_cmdline.inc.c"

#define CORPUS_STATE_ID	7

static struct klp_patch corpus_patch;

static struct klp_state corpus_states[] = {
	{ .id = CORPUS_STATE_ID, .version = CORPUS_VERSION },
	{ }
};

static int corpus_pre_patch(struct klp_object *obj)
{
	struct klp_state *state = klp_get_state(&corpus_patch, CORPUS_STATE_ID);

	if (klp_get_prev_state(CORPUS_STATE_ID))
		return 0;
	state->data = kzalloc(64, GFP_KERNEL);
	return state->data ? 0 : -ENOMEM;
}

static void corpus_post_patch(struct klp_object *obj)
{
	struct klp_state *prev = klp_get_prev_state(CORPUS_STATE_ID);

	if (prev)
		klp_get_state(&corpus_patch, CORPUS_STATE_ID)->data = prev->data;
}

static void corpus_post_unpatch(struct klp_object *obj)
{
	struct klp_state *state = klp_get_state(&corpus_patch, CORPUS_STATE_ID);

	/* The atomic replace was reversed: the data still belong to the older patch. */
	if (klp_get_prev_state(CORPUS_STATE_ID))
		return;
	kfree(state->data);
	state->data = NULL;
}

static struct klp_func corpus_funcs[] = {
	CORPUS_CMDLINE,
	{ }
};

#define CORPUS_STATES	corpus_states
#define CORPUS_REPLACE	true
#define CORPUS_CALLBACKS { \
	.pre_patch = corpus_pre_patch, \
	.post_patch = corpus_post_patch, \
	.post_unpatch = corpus_post_unpatch, \
}

#include "corpus_patch.inc.c"
