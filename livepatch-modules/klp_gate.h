/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What klp_target_gate exports to other modules.
 */

#ifndef KLP_GATE_H
#define KLP_GATE_H

#define KLP_GATES	8

/* Both return at once when gate @n is open, otherwise as soon as it is opened. */
void klp_gate_sleep(unsigned int n);
int klp_gate_sleep_interruptible(unsigned int n);

#endif /* KLP_GATE_H */
