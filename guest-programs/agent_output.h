/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the agent writes to the host: JSON lines. They are collected and written
 * whole when they are flushed. A slow reader slows the agent down; nothing is
 * dropped.
 */

#ifndef AGENT_OUTPUT_H
#define AGENT_OUTPUT_H

#include <stddef.h>

#include "lib_text.h"

/* Returns where the next line, with its newline, is to be appended. */
struct text *output_line(void);
void output_whole_line(const char *line, size_t len);
void output_flush(void);
/* Drops what has not been flushed. */
void output_discard(void);

/* A reply: output_reply(), the fields, output_end_reply(). */
struct text *output_reply(long long id);
void output_end_reply(struct text *json, int error);
void output_error(long long id, int error, const char *what);
/* Adds the field "error" to the reply of a job; returns -EINVAL. */
int output_invalid(struct text *reply, const char *what);

/*
 * From now on the host may close its end, and the agent stays, for what it has
 * started. What it says then is dropped.
 */
void output_stay(void);
void output_end(void);

/* The first line; whoever starts an agent in advance knows from it that it waits for requests. */
void output_ready(void);
/*
 * Reports how many bytes were read. Where the line to the agent loses what
 * arrives too fast, the host waits for this before it sends more.
 */
void output_taken(size_t bytes);

#endif /* AGENT_OUTPUT_H */
