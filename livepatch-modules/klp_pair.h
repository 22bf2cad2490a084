/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What klp_target_pair exports to the patch of its functions.
 */

#ifndef KLP_PAIR_H
#define KLP_PAIR_H

/* What a task does inside klp_pair_f() before it calls klp_pair_g(). */
enum klp_pair_pause {
	KLP_PAIR_NAP,	/* sleeps for some milliseconds */
	KLP_PAIR_SPIN,	/* keeps the CPU */
	KLP_PAIR_GATE,	/* enters gate 5 */
};

/* One call: which version of each function ran, "original" or "patched". */
struct klp_pair {
	enum klp_pair_pause pause;
	const char *f;
	const char *g;
};

void klp_pair_pause(const struct klp_pair *pair);
void klp_pair_g(struct klp_pair *pair);

#endif /* KLP_PAIR_H */
