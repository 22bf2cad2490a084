/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Jobs on tasks: list every thread, and wait for their patch states.
 */

#ifndef AGENT_TASKS_H
#define AGENT_TASKS_H

#include "agent_request.h"

int job_tasks(const struct request *request, struct text *reply);
int job_poll_tasks(const struct request *request, struct text *reply);

#endif /* AGENT_TASKS_H */
