// SPDX-License-Identifier: GPL-2.0-only

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent_child.h"
#include "agent_job.h"
#include "agent_klog.h"
#include "agent_output.h"
#include "agent_watch.h"
#include "lib_common.h"

#define IDLE_MAX	2
#define REQUEST_ROOM	(1024 * 1024)	/* of a child's pipe, if the system permits it */
#define PREPARED_MAX	64		/* bytes of the request of job_prepare() */

/* Sent to an idle child before the line. It is a fork: the verb has the same address there. */
struct job_header {
	const struct verb *verb;
	size_t len;		/* without the newline */
};

struct job {
	struct job *next;
	long long id;
	pid_t pid;
	int request_fd;		/* -1 for a child that is not kept */
	size_t room;		/* bytes that fit into the request pipe of an idle child */
	int reply_fd;		/* -1 after end of file */
	int watched;
	bool busy;
	bool ended;
	int status;
	struct text reply;
};

static struct job *jobs;

/* @line has @len bytes and its newline; parsing changes it. */
static void job_run(const struct verb *verb, char *line, size_t len)
{
	static struct request request;
	struct text reply = {};
	const char *wrong;
	int error;

	wrong = request_parse(&request, line, len);
	if (!wrong)
		wrong = request_check(&request, verb);
	json_begin(&reply, '{');
	json_add_number(&reply, "id", request.id);
	error = wrong ? output_invalid(&reply, wrong) : verb->job(&request, &reply);
	output_end_reply(&reply, -error);
	if (write_all(STDOUT_FILENO, reply.data, reply.len))
		_exit(1);
	text_free(&reply);
}

static bool read_whole(char *data, size_t len)
{
	ssize_t done;

	while (len) {
		done = read(STDIN_FILENO, data, len);
		if (done > 0) {
			data += done;
			len -= done;
		} else if (!done || errno != EINTR) {
			return false;
		}
	}
	return true;
}

/* What a child that is kept does after its first job. */
static void job_serve_more(void)
{
	struct pollfd ready = { .fd = STDIN_FILENO, .events = POLLIN };
	struct text line = {};
	struct job_header header;

	for (;;) {
		if (ppoll(&ready, 1, NULL, NULL) < 0)
			continue;
		if (!read_whole((char *)&header, sizeof(header)))
			return;
		text_reserve(&line, header.len + 1);
		if (!read_whole(line.data, header.len + 1))
			return;
		job_run(header.verb, line.data, header.len);
		if (line.room > 2 * AGENT_READ_SIZE)
			text_free(&line);
	}
}

/* Sends a request to an idle child; returns false when there is none. */
static bool job_reuse(const struct verb *verb, long long id, char *line, size_t len)
{
	struct job_header header = { .verb = verb, .len = len };
	struct iovec parts[] = {
		{ .iov_base = &header, .iov_len = sizeof(header) },
		{ .iov_base = line, .iov_len = len + 1 },
	};
	size_t size = sizeof(header) + len + 1;
	struct job *job;

	for (job = jobs; job; job = job->next) {
		if (job->busy || job->ended || job->request_fd < 0 || size > job->room)
			continue;
		if (writev(job->request_fd, parts, ARRAY_SIZE(parts)) != (ssize_t)size)
			continue;
		job->id = id;
		job->busy = true;
		return true;
	}
	return false;
}

/* Keeps the child for the next job, or lets it exit when enough are idle. */
static void job_idle(struct job *done)
{
	unsigned int idle = 0;
	struct job *job;

	done->busy = false;
	for (job = jobs; job; job = job->next)
		idle += !job->busy && job->request_fd >= 0;
	if (idle > IDLE_MAX) {
		close(done->request_fd);
		done->request_fd = -1;
	}
}

static void job_receive(struct job *job)
{
	ssize_t len;

	text_reserve(&job->reply, AGENT_READ_SIZE);
	len = read(job->reply_fd, job->reply.data + job->reply.len, AGENT_READ_SIZE);
	if (len < 0 && errno == EINTR)
		return;
	if (len <= 0) {
		close(job->reply_fd);
		job->reply_fd = -1;
		return;
	}
	job->reply.len += len;
	if (job->reply.data[job->reply.len - 1] == '\n') {
		output_whole_line(job->reply.data, job->reply.len);
		text_free(&job->reply);
		job_idle(job);
	}
}

static size_t pipe_room(int fd)
{
	int room = fcntl(fd, F_SETPIPE_SZ, REQUEST_ROOM);

	if (room < 0)
		room = fcntl(fd, F_GETPIPE_SZ);
	return room < 0 ? 0 : room;
}

static int job_fork(struct job *job, const struct verb *verb, char *line, size_t len)
{
	int requests[2], replies[2], fds[KLOG_CHILD_FD + 1];
	/* A child that is kept would hold the memory of a very long line. */
	bool keep = len < REQUEST_ROOM;
	int ret = 0;

	if (pipe2(requests, O_CLOEXEC) < 0)
		return -errno;
	if (pipe2(replies, O_CLOEXEC) < 0) {
		ret = -errno;
		close(requests[0]);
		close(requests[1]);
		return ret;
	}
	fds[STDIN_FILENO] = requests[0];
	fds[STDOUT_FILENO] = replies[1];
	fds[STDERR_FILENO] = child_null_fd;
	fds[KLOG_CHILD_FD] = klog_share();
	job->pid = child_fork(fds, ARRAY_SIZE(fds));
	if (!job->pid) {
		job_run(verb, line, len);
		if (keep)
			job_serve_more();
		_exit(0);
	}
	if (job->pid < 0)
		ret = -errno;
	close(requests[0]);
	close(replies[1]);
	if (!ret && keep) {
		job->request_fd = requests[1];
		job->room = pipe_room(requests[1]);
	} else {
		close(requests[1]);
		job->request_fd = -1;
	}
	if (!ret)
		job->reply_fd = replies[0];
	else
		close(replies[0]);
	return ret;
}

static struct job *job_new(const struct verb *verb, long long id, char *line, size_t len)
{
	struct job *job = calloc(1, sizeof(*job));
	int ret = job ? job_fork(job, verb, line, len) : -ENOMEM;

	if (ret) {
		output_error(id, -ret, "the agent cannot start a child");
		free(job);
		return NULL;
	}
	job->id = id;
	job->busy = true;
	job->watched = WATCH_NONE;
	job->next = jobs;
	jobs = job;
	return job;
}

void job_start(const struct verb *verb, long long id, char *line, size_t len)
{
	if (!job_reuse(verb, id, line, len))
		job_new(verb, id, line, len);
}

void job_prepare(const struct verb *verb, const char *request)
{
	char line[PREPARED_MAX];
	struct job *job;

	job = job_new(verb, 0, line, snprintf(line, sizeof(line), "0 %s", request));
	while (job && job->busy && job->reply_fd >= 0)
		job_receive(job);
	if (job)
		job->busy = false;
	output_discard();
}

void job_watch(void)
{
	struct job *job;

	for (job = jobs; job; job = job->next)
		job->watched = watch_add(job->reply_fd, POLLIN);
}

static void job_finish(struct job *job)
{
	struct text *json;

	if (job->busy && WIFSIGNALED(job->status)) {
		json = output_reply(job->id);
		json_add_number(json, "killed", WTERMSIG(job->status));
		output_end_reply(json, 0);
	} else if (job->busy) {
		output_error(job->id, EIO, "the child ended without a reply");
	}
	if (job->request_fd >= 0)
		close(job->request_fd);
	text_free(&job->reply);
	free(job);
}

void job_serve(void)
{
	struct job **link = &jobs, *job;

	while ((job = *link)) {
		if (watch_result(job->watched))
			job_receive(job);
		if (job->ended && job->reply_fd < 0) {
			*link = job->next;
			job_finish(job);
		} else {
			link = &job->next;
		}
	}
}

bool job_reaped(pid_t pid, int status)
{
	struct job *job;

	for (job = jobs; job; job = job->next) {
		if (job->pid == pid && !job->ended) {
			job->ended = true;
			job->status = status;
			return true;
		}
	}
	return false;
}

bool job_kill_all(void)
{
	bool any = false;
	struct job *job;

	for (job = jobs; job; job = job->next) {
		if (!job->ended) {
			child_kill(job->pid, false);
			any = true;
		}
	}
	return any;
}
