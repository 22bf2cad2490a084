/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the parts of klp-agent share. README.md has the protocol.
 *
 * agent_request.c	reads request lines
 * agent_output.c	writes replies and events
 * agent_child.c	starts children
 * agent_job.c		requests that are served by a child, for they may block or die
 * agent_spawn.c	programs that the host starts and listens to
 * agent_files.c, agent_tasks.c, agent_klog.c	what the children do
 * klp_agent.c		the loop
 */

#ifndef AGENT_H
#define AGENT_H

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "klp_text.h"

#define AGENT_PROTOCOL		1
#define AGENT_LINE_MAX		(8 * 1024 * 1024)	/* bytes of a request */
#define AGENT_ARGS_MAX		256
#define AGENT_EVENT_MAX		(1024 * 1024)		/* bytes of an event's text */
#define AGENT_PREPARED_MOST	64	/* of the job that the first child begins with */
#define AGENT_READ_SIZE		65536
#define AGENT_POLL_MOST_MS	(7 * 24 * 3600 * 1000LL)

struct argument {
	char *text;		/* terminated, and may hold zero bytes before that */
	size_t len;
};

struct request {
	long long id;
	const char *verb;
	unsigned int argc;
	struct argument args[AGENT_ARGS_MAX];
};

/* Decodes a line in place; returns what is wrong with it, or NULL. An id that is not known is 0. */
const char *request_parse(struct request *request, char *line, size_t len);

/* The beginning of a line, which stays as it is: false when there is no number and no verb. */
bool request_peek(const char *line, size_t len, long long *id, const char **verb, size_t *verb_len);

/*
 * Serves a request in a child, which may serve others later: adds its fields to
 * the reply, leaves nothing open, and returns a negative errno.
 */
typedef int (*job_function)(const struct request *request, struct text *reply);

struct verb {
	const char *name;
	unsigned int least;		/* arguments */
	unsigned int most;
	int binary;			/* the argument that may hold zero bytes, or -1 */
	job_function job;		/* what a child does, or else */
	void (*serve)(const struct request *request);
	const char *usage;
};

/* What is wrong with the arguments, or NULL. */
const char *verb_refuses(const struct verb *verb, const struct request *request);

int job_read(const struct request *request, struct text *reply);
int job_write(const struct request *request, struct text *reply);
int job_create(const struct request *request, struct text *reply);
int job_list(const struct request *request, struct text *reply);
int job_stat(const struct request *request, struct text *reply);
int job_stack(const struct request *request, struct text *reply);
int job_poll_file(const struct request *request, struct text *reply);
int job_insmod(const struct request *request, struct text *reply);
int job_rmmod(const struct request *request, struct text *reply);
int job_tasks(const struct request *request, struct text *reply);
int job_poll_tasks(const struct request *request, struct text *reply);
int job_klog(const struct request *request, struct text *reply);

/* Says in words why a request is refused; returns -EINVAL. */
int job_invalid(struct text *reply, const char *what);

/* Descriptor 3 of a job is the kernel log as far as earlier jobs have read it; see agent_klog.c. */
#define JOB_KLOG_FD		3
int klog_share(void);

/* What is to be written to the host. All of it goes out, in whole lines, when it is flushed. */
struct text *output_line(void);
struct text *output_reply(long long id);
void output_end_reply(struct text *json, int error);
void output_ready(void);
void output_taken(size_t bytes);
void output_error(long long id, int error, const char *what);
void output_whole_line(const char *line, size_t len);
void output_flush(void);
void output_forget(void);

/*
 * Fork. The child, where 0 is returned, leads a process group of its own, has
 * @fds as its descriptors from 0 on and no others (-1 leaves one closed), and
 * dies with the agent.
 */
pid_t child_fork(const int *fds, unsigned int count);
void child_kill(pid_t pid, bool reaped);
extern int child_null_fd;

/* The set of descriptors that the loop waits for; an index is good until the next round. */
#define WATCH_NONE		(-1)
int watch_add(int fd, short events);
short watch_result(int index);

void job_prepare(const struct verb *verb, const char *request);
void job_start(const struct verb *verb, long long id, char *line, size_t len);
void job_watch(void);
void job_serve(void);
bool job_reaped(pid_t pid, int status);
bool job_kill_all(void);

void spawn_start(const struct request *request);
void spawn_stdin(const struct request *request);
void spawn_close_stdin(const struct request *request);
void spawn_watch(void);
void spawn_serve(void);
bool spawn_reaped(pid_t pid, int status);
bool spawn_kill_all(void);

#endif /* AGENT_H */
