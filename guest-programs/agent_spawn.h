/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Programs that the agent starts for the host: their standard input, their
 * output as events, and their end.
 */

#ifndef AGENT_SPAWN_H
#define AGENT_SPAWN_H

#include <stdbool.h>
#include <sys/types.h>

#include "agent_request.h"

void spawn_start(const struct request *request);
void spawn_stdin(const struct request *request);
void spawn_close_stdin(const struct request *request);

void spawn_watch(void);
void spawn_serve(void);
/* Returns whether @pid was such a program. */
bool spawn_reaped(pid_t pid, int status);
/* Returns whether there were any. Kills also what an exited program left in its process group. */
bool spawn_kill_all(void);

#endif /* AGENT_SPAWN_H */
