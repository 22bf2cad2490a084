/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Jobs: requests that a child of the agent serves, because they may block or
 * die in the kernel. The reply is accepted once the line is whole, even when
 * the child does not exit.
 *
 * A child that has replied is kept for the next job, because fork is the most
 * expensive part of a small request. It waits in ppoll() as the agent itself
 * does, so it delays a transition no more than the agent would. One is started
 * in advance, so an agent that is saved with its guest needs no fork in a clone.
 */

#ifndef AGENT_JOB_H
#define AGENT_JOB_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "agent_request.h"

/*
 * Starts a child and has it serve @request once, so that both processes have
 * allocated by then what a job needs. The reply is dropped.
 */
void job_prepare(const struct verb *verb, const char *request);

/* @line is the request as it was received: @len bytes and its newline. */
void job_start(const struct verb *verb, long long id, char *line, size_t len);

void job_watch(void);
void job_serve(void);
/* Returns whether @pid was the child of a job. */
bool job_reaped(pid_t pid, int status);
/* Returns whether there were any. */
bool job_kill_all(void);

#endif /* AGENT_JOB_H */
