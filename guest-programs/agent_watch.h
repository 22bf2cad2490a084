/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The descriptors that the agent's loop waits for. They are registered anew for
 * each round; an index is valid until the next one.
 */

#ifndef AGENT_WATCH_H
#define AGENT_WATCH_H

#include <poll.h>
#include <signal.h>
#include <stdbool.h>

#define WATCH_NONE	(-1)

void watch_begin(void);

/* Returns the index; WATCH_NONE for a negative descriptor. */
int watch_add(int fd, short events);

/* Waits with the signal mask @waiting. Returns false on failure; a signal is none. */
bool watch_wait(const sigset_t *waiting);

/* Returns the events of a descriptor; 0 for WATCH_NONE. */
short watch_result(int index);

#endif /* AGENT_WATCH_H */
