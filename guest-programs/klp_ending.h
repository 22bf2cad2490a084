/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * When a program that goes on until it is told otherwise is to end: at SIGTERM
 * or SIGINT, or at the end of its standard input, so that it never outlives
 * the one who started it.
 *
 * checkpatch: ignore VOLATILE: what a signal handler sets is a volatile sig_atomic_t in C11
 */

#ifndef KLP_ENDING_H
#define KLP_ENDING_H

#include <signal.h>

#include "klp_common.h"

static volatile sig_atomic_t ending_asked;

static inline void ending_on_signal(int signo)
{
	(void)signo;
	ending_asked = 1;
}

/* A system call that such a signal interrupts is not started again. */
static inline void ending_prepare(void)
{
	struct sigaction action = { .sa_handler = ending_on_signal };

	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
}

/*
 * Sleep until @until_us of CLOCK_MONOTONIC, or look once; returns whether to end.
 * A signal that comes just before the sleep is seen after it.
 */
static inline bool ending_wait(long long until_us)
{
	struct pollfd input = { .fd = STDIN_FILENO, .events = POLLIN };
	struct timespec left;
	long long left_us;
	char skipped[512];
	ssize_t len;

	do {
		left_us = until_us - now_us();
		left = timespec_of_us(left_us > 0 ? left_us : 0);
		if (ppoll(&input, 1, &left, NULL) > 0) {
			len = read(STDIN_FILENO, skipped, sizeof(skipped));
			if (!len || (len < 0 && errno != EAGAIN && errno != EINTR))
				return true;
		}
		if (ending_asked)
			return true;
	} while (left_us > 0 && now_us() < until_us);
	return false;
}

#endif /* KLP_ENDING_H */
