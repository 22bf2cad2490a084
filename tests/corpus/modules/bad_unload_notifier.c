// SPDX-License-Identifier: GPL-2.0-only
/*
 * bad_unload_notifier - bad: its notifier is still registered when the module is unloaded.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/notifier.h>

#include "corpus.h"
#include "corpus_cmdline.inc.c"

static unsigned long corpus_events;

static int corpus_notice(struct notifier_block *block, unsigned long event, void *module)
{
	corpus_events++;
	return NOTIFY_DONE;
}

static struct notifier_block corpus_block = { .notifier_call = corpus_notice };

static void corpus_post_patch(struct klp_object *obj)
{
	register_module_notifier(&corpus_block);
}

static struct klp_func corpus_funcs[] = {
	CORPUS_CMDLINE,
	{ }
};

#define CORPUS_CALLBACKS	{ .post_patch = corpus_post_patch }

#include "corpus_patch.inc.c"

MODULE_DESCRIPTION("Livepatch corpus: a notifier that is not unregistered");
