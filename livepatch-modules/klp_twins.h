/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * How the two halves of klp_target_twins reach each other's klp_twin().
 */

#ifndef KLP_TWINS_H
#define KLP_TWINS_H

const char *klp_twins_second(void);

#endif /* KLP_TWINS_H */
