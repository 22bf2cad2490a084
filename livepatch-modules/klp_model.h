/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What klp_target_model exports to the patch of its functions.
 */

#ifndef KLP_MODEL_H
#define KLP_MODEL_H

#define KLP_MODEL_NO_GATE	-1

/* One call of klp_model_outer(), and which versions of the functions ran. */
struct klp_model_call {
	int gate;		/* where outer sleeps before it calls inner */
	const char *outer;	/* "old" or "new" */
	const char *inner;	/* the same for the inner that outer called */
};

const char *klp_model_inner(void);

#endif /* KLP_MODEL_H */
