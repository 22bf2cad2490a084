/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Starts and kills children of the agent.
 */

#ifndef AGENT_CHILD_H
#define AGENT_CHILD_H

#include <stdbool.h>
#include <sys/types.h>

/* /dev/null, open for both directions. */
extern int child_null_fd;

/* Opens child_null_fd; returns false on failure. */
bool child_prepare(void);

/*
 * Forks. The child, where 0 is returned, leads a process group of its own, has
 * @fds as its descriptors from 0 on and no others (-1 leaves one closed), and
 * dies with the agent.
 */
pid_t child_fork(const int *fds, unsigned int count);

/* Kills a child and its process group. When it has been @reaped, its pid may be another's. */
void child_kill(pid_t pid, bool reaped);

#endif /* AGENT_CHILD_H */
