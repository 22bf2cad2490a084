/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What klp_target_idle exports to the patch of its functions.
 */

#ifndef KLP_IDLE_H
#define KLP_IDLE_H

/* One call: which version of each function ran, "original" or "patched". */
struct klp_idle_call {
	const char *outer;
	const char *inner;
};

void klp_idle_inject(void);
void klp_idle_inner(struct klp_idle_call *call);

#endif /* KLP_IDLE_H */
