// SPDX-License-Identifier: GPL-2.0-only
/*
 * bad_replace - bad: it misinterprets the data of the state of old_state, and
 * dereferences NULL there. Alone it works.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include "corpus.h"
#include "corpus_cmdline.inc.c"

#define CORPUS_STATE_ID	7

struct corpus_state_data {
	struct corpus_state_data *next;
	int users;
};

static struct klp_state corpus_states[] = {
	{ .id = CORPUS_STATE_ID, .version = 3 },
	{ }
};

/* The data of old_state are 64 bytes of zeroes. */
static int corpus_pre_patch(struct klp_object *obj)
{
	struct klp_state *prev = klp_get_prev_state(CORPUS_STATE_ID);
	struct corpus_state_data *data = prev ? prev->data : NULL;

	if (data)
		data->next->users++;
	return 0;
}

static struct klp_func corpus_funcs[] = {
	CORPUS_CMDLINE,
	{ }
};

#define CORPUS_STATES		corpus_states
#define CORPUS_REPLACE		true
#define CORPUS_CALLBACKS	{ .pre_patch = corpus_pre_patch }

#include "corpus_patch.inc.c"

MODULE_DESCRIPTION("Livepatch corpus: breaks under replace");
