/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What A and B can do, a line each: a verb and its arguments.
 *
 *	insmod PATH [PARAMETERS]
 *	rmmod NAME
 *	unload NAME		a livepatch that is being disabled: rmmod until it has gone
 *	write PATH TEXT
 *	read PATH
 *	enter N			a read of gate N of /dev/klp_gate
 *	await PATH TEXT		until the file begins with that, or some seconds have passed
 *	fork, vfork		the child reads its patch state in user mode, and spins
 *	exit			a child for which nobody waits ends
 *	none
 */

#ifndef DUEL_STEP_H
#define DUEL_STEP_H

#include <stdbool.h>
#include <stddef.h>

#include "duel.h"

/* Where steps say which modules they have loaded: one after the other, in so many places. */
extern struct duel_module *step_modules;
extern int step_modules_most;

/* Returns a positive errno. */
int step_do(const char *line);

/*
 * Has the kernel try now to complete a transition, which it does once a second by itself.
 * Not if it was made to @most times in this round: after 15 it would send signals to
 * those that have not switched.
 */
void step_retry_now(unsigned long most);
#define HELD_RETRIES	2	/* while a CPU is held */
#define MOST_RETRIES	4
#define ANY_RETRIES	(~0UL)

/* The same for a look at a transition, the number @look: at fewer and fewer of these. */
void step_retry(int look, unsigned long most);

/* RCU's grace periods end at once, for what nobody tests. */
void step_expedite(bool on);

int step_write(const char *path, const char *text);
/* Reads the first line of a file. */
int step_read(const char *path, char *text, size_t room);

/* Calls for each name in a folder that is no hidden one; a nonzero value ends it. */
int step_each(const char *folder, int (*call)(const char *name, void *context), void *context);

#endif /* DUEL_STEP_H */
