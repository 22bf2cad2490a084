// SPDX-License-Identifier: GPL-2.0-only
/*
 * Jobs: requests served by a child. The child may sleep in the kernel for ever,
 * or be killed there by an oops; the agent goes on all the same. Its reply
 * counts once the line is whole, even when the child does not come to its end.
 *
 * A child that has replied is kept for the next job, for a fork is the dearest
 * part of a small request. It waits as the agent itself does, in ppoll(), and
 * so holds no transition up that the agent would not.
 */

#include <errno.h>
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent.h"
#include "klp_common.h"

#define IDLE_MOST	2
#define MESSAGE_MOST	(2 * AGENT_SHORT_LINE)	/* an empty pipe takes it without blocking */

/* What an idle child gets: it is a fork, and so has the function at the same address. */
struct message {
	job_function function;
	size_t len;
	char line[];		/* the request, and its newline */
};

struct job {
	struct job *next;
	long long id;
	pid_t pid;
	int request_fd;		/* -1 for a child that is not kept */
	int reply_fd;		/* -1 after its end */
	int watched;
	bool busy;
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
	if (write_all(STDOUT_FILENO, reply.data, reply.len))
		_exit(1);
	text_free(&reply);
}

/* The life of a child. @line is NULL when it is not to be kept. */
static void job_child(struct request *request, job_function function, const char *line)
{
	static union {
		struct message message;
		char data[MESSAGE_MOST];
	} next;
	struct pollfd ready = { .fd = STDIN_FILENO, .events = POLLIN };
	ssize_t len;

	job_run(request, function);
	while (line) {
		if (ppoll(&ready, 1, NULL, NULL) < 0)
			continue;
		len = read(STDIN_FILENO, next.data, sizeof(next));
		if (len <= 0)
			break;
		if (!request_parse(request, next.message.line, next.message.len))
			job_run(request, next.message.function);
	}
	_exit(0);
}

/* Returns false when there is no child to be had that waits for work. */
static bool job_hand_over(const struct request *request, job_function function, const char *line,
			  size_t len)
{
	static union {
		struct message message;
		char data[MESSAGE_MOST];
	} next;
	size_t size = offsetof(struct message, line) + len + 1;
	struct job *job;

	next.message.function = function;
	next.message.len = len;
	memcpy(next.message.line, line, len + 1);
	for (job = jobs; job; job = job->next) {
		if (job->busy || job->ended || job->request_fd < 0)
			continue;
		if (write(job->request_fd, next.data, size) != (ssize_t)size)
			continue;
		job->id = request->id;
		job->busy = true;
		return true;
	}
	return false;
}

static int job_fork(struct job *job, struct request *request, job_function function,
		    const char *line)
{
	int requests[2], replies[2], fds[JOB_KLOG_FD + 1];
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
	fds[JOB_KLOG_FD] = klog_share();
	job->pid = child_fork(fds, ARRAY_SIZE(fds));
	if (!job->pid)
		job_child(request, function, line);
	if (job->pid < 0)
		ret = -errno;
	close(requests[0]);
	close(replies[1]);
	if (!ret && line) {
		job->request_fd = requests[1];
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

/*
 * @line is the request as it came, of @len bytes and its newline. One that is
 * long goes to a child of its own, which has it by the fork and is not kept.
 */
void job_start(struct request *request, job_function function, const char *line, size_t len)
{
	struct job *job;
	int ret;

	if (line && job_hand_over(request, function, line, len))
		return;
	job = calloc(1, sizeof(*job));
	ret = job ? job_fork(job, request, function, line) : -ENOMEM;
	if (ret) {
		output_error(request->id, -ret, "the agent cannot start a child");
		free(job);
		return;
	}
	job->id = request->id;
	job->busy = true;
	job->watched = WATCH_NONE;
	job->next = jobs;
	jobs = job;
}

void job_watch(void)
{
	struct job *job;

	for (job = jobs; job; job = job->next)
		job->watched = job->reply_fd < 0 ? WATCH_NONE : watch_add(job->reply_fd, POLLIN);
}

/* Keep it for the next job, or let it go when there are enough. */
static void job_rest(struct job *resting)
{
	unsigned int idle = 0;
	struct job *job;

	resting->busy = false;
	for (job = jobs; job; job = job->next)
		idle += !job->busy && job->request_fd >= 0;
	if (idle > IDLE_MOST) {
		close(resting->request_fd);
		resting->request_fd = -1;
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
		job_rest(job);
	}
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
