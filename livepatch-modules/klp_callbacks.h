/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Callbacks that log in the format that the harness parses:
 *
 *	<patch>: callback PHASE OBJECT STATE
 *
 * PHASE is pre_patch, post_patch, pre_unpatch or post_unpatch; OBJECT is vmlinux
 * or the name of a module; STATE is the state of that module, or - for vmlinux.
 * They warn when the object is patched and should not be, or the reverse.
 */

#ifndef KLP_CALLBACKS_H
#define KLP_CALLBACKS_H

#include <linux/kernel.h>
#include <linux/livepatch.h>
#include <linux/module.h>

static inline const char *klp_object_state(const struct klp_object *obj)
{
	if (!obj->mod)
		return "-";

	switch (obj->mod->state) {
	case MODULE_STATE_LIVE:
		return "LIVE";
	case MODULE_STATE_COMING:
		return "COMING";
	case MODULE_STATE_GOING:
		return "GOING";
	default:
		return "UNFORMED";
	}
}

static inline void klp_log_callback(const char *phase, const struct klp_object *obj, bool patched)
{
	WARN(obj->patched != patched, "%s() of an object that is%s patched\n", phase,
	     obj->patched ? "" : " not");
	pr_info("callback %s %s %s\n", phase, obj->name ?: "vmlinux", klp_object_state(obj));
}

static inline int klp_log_pre_patch(struct klp_object *obj)
{
	klp_log_callback("pre_patch", obj, false);
	return 0;
}

static inline void klp_log_post_patch(struct klp_object *obj)
{
	klp_log_callback("post_patch", obj, true);
}

static inline void klp_log_pre_unpatch(struct klp_object *obj)
{
	klp_log_callback("pre_unpatch", obj, true);
}

static inline void klp_log_post_unpatch(struct klp_object *obj)
{
	klp_log_callback("post_unpatch", obj, false);
}

/* Initializes klp_object.callbacks; @pre is klp_log_pre_patch or a function that calls it. */
#define KLP_LOG_CALLBACKS(pre) {			\
	.pre_patch = pre,				\
	.post_patch = klp_log_post_patch,		\
	.pre_unpatch = klp_log_pre_unpatch,		\
	.post_unpatch = klp_log_post_unpatch,		\
}

#endif /* KLP_CALLBACKS_H */
