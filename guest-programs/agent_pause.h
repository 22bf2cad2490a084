/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The pauses of a job that checks a condition until it holds. Under emulation
 * each wake-up is expensive, and most of what is waited for is logged by the
 * kernel when it happens: the end of a transition, a module that is gone. So a
 * check follows a record of the kernel log, and the pauses without one grow.
 */

#ifndef AGENT_PAUSE_H
#define AGENT_PAUSE_H

#include <stdbool.h>

struct pause {
	long long start_us;	/* CLOCK_MONOTONIC, as the next two */
	long long until_us;
	long long since_us;	/* the beginning, or the last record */
	long long interval_us;
	bool logged;		/* the last pause was ended by a record */
};

struct pause pause_begin(long long timeout_ms, long long interval_ms);
/* Returns whether the deadline has come. */
bool pause_over(const struct pause *pause);
long long pause_waited_ms(const struct pause *pause);

/*
 * Sleeps until the kernel has logged something, or as long as was waited so
 * far, though not less than the interval and not more than 16 of it. After a
 * record the next pause is one interval whatever is logged. Does not sleep
 * beyond the deadline, where the last check is made.
 */
void pause_wait(struct pause *pause);

#endif /* AGENT_PAUSE_H */
