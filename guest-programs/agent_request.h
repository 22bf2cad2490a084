/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Requests as the agent receives them, and the verbs that they may have.
 */

#ifndef AGENT_REQUEST_H
#define AGENT_REQUEST_H

#include <stdbool.h>
#include <stddef.h>

#include "agent.h"

struct text;

struct argument {
	char *text;		/* terminated, and may contain zero bytes before that */
	size_t len;
};

struct request {
	long long id;
	const char *verb;
	unsigned int argc;
	struct argument args[AGENT_ARGS_MAX];
};

/*
 * Serves a request in a child, which may serve others later: adds its fields to
 * the reply, leaves nothing open, and returns a negative errno.
 */
typedef int (*job_function)(const struct request *request, struct text *reply);

struct verb {
	const char *name;
	unsigned int least;		/* arguments */
	unsigned int most;
	int binary;			/* the argument that may contain zero bytes, or -1 */
	job_function job;		/* called in a child; NULL when serve() is called here */
	void (*serve)(const struct request *request);
	const char *usage;
};

/*
 * Decodes a line in place: @len bytes and one more, the newline, that may be
 * written to. Returns what is wrong with it, or NULL. An unknown id is 0.
 */
const char *request_parse(struct request *request, char *line, size_t len);

/*
 * Reads id and verb at the beginning of a line without changing it. Returns
 * false when they are missing.
 */
bool request_peek(const char *line, size_t len, long long *id, const char **verb, size_t *verb_len);

/* Returns what is wrong with the arguments of a request, or NULL. */
const char *request_check(const struct request *request, const struct verb *verb);

#endif /* AGENT_REQUEST_H */
