/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The functions that klp_target_many has and klp_test_many patches: klp_many_1000()
 * to klp_many_1399().
 */

#ifndef KLP_MANY_H
#define KLP_MANY_H

#define KLP_MANY		400
#define KLP_MANY_FIRST		1000	/* all numbers have four digits, none begins with 0 */

#define KLP_MANY_PATCHED	0	/* what a new body returns; an old one returns its number */

#endif /* KLP_MANY_H */
