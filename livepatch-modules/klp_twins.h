/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The second and the third source file of klp_target_twins, for the first.
 */

#ifndef KLP_TWINS_H
#define KLP_TWINS_H

const char *klp_twins_second(void);
const char *klp_twins_third(void);

#endif /* KLP_TWINS_H */
