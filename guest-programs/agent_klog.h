/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The kernel log, record by record, from /dev/kmsg (Documentation/ABI/testing/dev-kmsg).
 *
 * That file can only be read from its first record on. So the agent keeps a
 * descriptor open that every child inherits, and a job that wants only what was
 * logged since the last one continues there.
 */

#ifndef AGENT_KLOG_H
#define AGENT_KLOG_H

#include "agent_request.h"

/* The number that the shared descriptor has in a child. */
#define KLOG_CHILD_FD	3

/* Returns the shared descriptor, opened once; -1 when there is none. */
int klog_share(void);

int job_klog(const struct request *request, struct text *reply);

#endif /* AGENT_KLOG_H */
