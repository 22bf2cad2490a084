// SPDX-License-Identifier: GPL-2.0-only
/*
 * Jobs: requests served by a child. The child may sleep in the kernel for ever,
 * or be killed there by an oops; the agent goes on all the same. Its reply
 * counts once the line is whole, even when the child does not come to its end.
 */

#include <errno.h>
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent.h"
#include "klp_common.h"

struct job {
	struct job *next;
	long long id;
	pid_t pid;
	int fd;			/* its reply comes here; -1 after the end */
	int watched;
	bool replied;
	bool ended;
	int status;
	struct text reply;
};

static struct job *jobs;

int job_invalid(struct text *reply, const char *what)
{
	json_add_string(reply, "error", what);
	return -EINVAL;
}

static void job_run(const struct request *request, job_function function)
{
	struct text reply = {};
	int error;

	json_begin(&reply, '{');
	json_add_number(&reply, "id", request->id);
	error = function(request, &reply);
	output_end_reply(&reply, -error);
	_exit(write_all(STDOUT_FILENO, reply.data, reply.len) ? 1 : 0);
}

void job_start(const struct request *request, job_function function)
{
	int fds[] = { child_null_fd, -1, child_null_fd, -1 };
	struct job *job;
	int ends[2];

	if (pipe2(ends, O_CLOEXEC) < 0) {
		output_error(request->id, errno, "the agent cannot open a pipe");
		return;
	}
	job = calloc(1, sizeof(*job));
	if (job) {
		fds[1] = ends[1];
		fds[JOB_KLOG_FD] = klog_share();
		job->pid = child_fork(fds, JOB_KLOG_FD + 1);
		if (!job->pid)
			job_run(request, function);
	}
	close(ends[1]);
	if (!job || job->pid < 0) {
		output_error(request->id, errno, "the agent cannot start a child");
		close(ends[0]);
		free(job);
		return;
	}
	job->id = request->id;
	job->fd = ends[0];
	job->watched = WATCH_NONE;
	job->next = jobs;
	jobs = job;
}

void job_watch(void)
{
	struct job *job;

	for (job = jobs; job; job = job->next)
		job->watched = job->fd < 0 ? WATCH_NONE : watch_add(job->fd, POLLIN);
}

static void job_receive(struct job *job)
{
	ssize_t len;

	text_reserve(&job->reply, AGENT_READ_SIZE);
	len = read(job->fd, job->reply.data + job->reply.len, AGENT_READ_SIZE);
	if (len < 0 && errno == EINTR)
		return;
	if (len <= 0) {
		close(job->fd);
		job->fd = -1;
		return;
	}
	job->reply.len += len;
	/* The line is the last thing a child writes. */
	if (!job->replied && job->reply.data[job->reply.len - 1] == '\n') {
		output_whole_line(job->reply.data, job->reply.len);
		job->replied = true;
		text_free(&job->reply);
	}
}

static void job_finish(struct job *job)
{
	struct text *json;

	if (!job->replied && WIFSIGNALED(job->status)) {
		json = output_reply(job->id);
		json_add_number(json, "killed", WTERMSIG(job->status));
		output_end_reply(json, 0);
	} else if (!job->replied) {
		output_error(job->id, EIO, "the child ended without a reply");
	}
	text_free(&job->reply);
	free(job);
}

void job_serve(void)
{
	struct job **link = &jobs, *job;

	while ((job = *link)) {
		if (watch_result(job->watched))
			job_receive(job);
		if (job->ended && job->fd < 0) {
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

/* Returns whether there were any. */
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
