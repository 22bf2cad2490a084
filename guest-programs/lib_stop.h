/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Ends a program that would otherwise run forever: at SIGTERM or SIGINT, or at
 * the end of its standard input, so that it never outlives whoever started it.
 */

#ifndef LIB_STOP_H
#define LIB_STOP_H

#include <stdbool.h>

/* Installs the signal handlers. A system call that such a signal interrupts is not restarted. */
void stop_prepare(void);

/* Returns whether such a signal has arrived. */
bool stop_signalled(void);

/*
 * Sleeps until @until_us of CLOCK_MONOTONIC, or checks once when that is past;
 * returns whether the program is to end. A signal that arrives just before the
 * sleep is noticed after it.
 */
bool stop_wait(long long until_us);

#endif /* LIB_STOP_H */
