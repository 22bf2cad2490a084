/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Limits of the agent. README.md has the protocol and says which file does what.
 */

#ifndef AGENT_H
#define AGENT_H

#define AGENT_PROTOCOL		1
#define AGENT_LINE_MAX		(8 * 1024 * 1024)	/* bytes of a request */
#define AGENT_ARGS_MAX		256
#define AGENT_EVENT_MAX		(1024 * 1024)		/* bytes of an event's text */
#define AGENT_READ_SIZE		65536
#define AGENT_POLL_MAX_MS	(7 * 24 * 3600 * 1000LL)

#endif /* AGENT_H */
