/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What there is when A and B begin, a line for each step: those of duel_step.h, and
 *
 *	first STEP		in the first round alone
 *	settled			until no transition is open
 *	sleeper			a task sleeps in gate 0 of /dev/klp_gate
 */

#ifndef DUEL_PROLOGUE_H
#define DUEL_PROLOGUE_H

/* Does all of it; returns whether something is wrong, which is then among the findings. */
int prologue_do(char **lines);

#endif /* DUEL_PROLOGUE_H */
