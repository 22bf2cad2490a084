/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What klp_target_cold exports to the patch of its functions.
 */

#ifndef KLP_COLD_H
#define KLP_COLD_H

#include "klp_compat.h"

/* One call: which version of each function ran, "original" or "patched". */
struct klp_cold_call {
	const char *outer;
	const char *inner;
	bool pause;	/* enter gate 5 between the two */
};

/* The compiler moves a branch that calls it out of its function: into NAME.cold. */
__klp_cold void klp_cold_pause(void);
void klp_cold_inner(struct klp_cold_call *call);

#endif /* KLP_COLD_H */
