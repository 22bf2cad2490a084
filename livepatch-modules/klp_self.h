/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What klp_target_self exports to klp_test_self.
 */

#ifndef KLP_SELF_H
#define KLP_SELF_H

/* The gate in which a task sleeps in klp_self(), after the call. */
#define KLP_SELF_GATE	5

/* Returns what @call returned for @data, once gate KLP_SELF_GATE is open. */
int klp_self(int (*call)(void *data), void *data);

#endif /* KLP_SELF_H */
