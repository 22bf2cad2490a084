// SPDX-License-Identifier: GPL-2.0-only

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent_child.h"
#include "agent_output.h"
#include "agent_spawn.h"
#include "agent_watch.h"
#include "lib_common.h"

#define EXEC_FD		3	/* where the child reports why exec failed */
#define LAST_READS	64	/* of a stream whose program has ended */

/* Text for the program's standard input, or the request to close it. */
struct input {
	struct input *next;
	long long id;
	bool close;
	size_t done;
	size_t len;
	char text[];
};

struct stream {
	int fd;
	int watched;
	size_t searched;	/* no newline before this */
	struct text text;
};

struct spawned {
	struct spawned *next;
	long long id;
	pid_t pid;
	bool started;		/* exec has succeeded, or the child died before it */
	bool failed;		/* exec has failed, which was the reply */
	bool ended;
	bool told;		/* that it has ended, while others have its streams open */
	int status;
	int exec_fd;
	int exec_watched;
	int stdin_fd;
	int stdin_watched;
	struct input *inputs;
	struct stream streams[2];
};

static const char * const stream_names[] = { "stdout", "stderr" };

static struct spawned *spawned_programs;

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static void spawn_run(const struct request *request)
{
	char *argv[AGENT_ARGS_MAX + 1];
	unsigned int i;
	int error;

	for (i = 0; i < request->argc; i++)
		argv[i] = request->args[i].text;
	argv[i] = NULL;
	fcntl(EXEC_FD, F_SETFD, FD_CLOEXEC);
	execvp(argv[0], argv);
	error = errno;
	write_all(EXEC_FD, (const char *)&error, sizeof(error));
	_exit(127);
}

/* pipes: stdin, stdout, stderr, exec; each has the reading end and then the writing end. */
static void close_pipes(int pipes[4][2])
{
	unsigned int i;

	for (i = 0; i < 4; i++) {
		close_fd(&pipes[i][0]);
		close_fd(&pipes[i][1]);
	}
}

static int open_pipes(int pipes[4][2])
{
	unsigned int i;

	for (i = 0; i < 4; i++) {
		if (pipe2(pipes[i], O_CLOEXEC) < 0)
			return -errno;
	}
	/* A program that does not read must not block the agent. */
	return fcntl(pipes[0][1], F_SETFL, O_NONBLOCK) < 0 ? -errno : 0;
}

void spawn_start(const struct request *request)
{
	int pipes[4][2] = { { -1, -1 }, { -1, -1 }, { -1, -1 }, { -1, -1 } };
	int error = open_pipes(pipes);
	int fds[] = { pipes[0][0], pipes[1][1], pipes[2][1], pipes[3][1] };
	struct spawned *new = NULL;

	if (!error) {
		new = calloc(1, sizeof(*new));
		error = new ? 0 : -ENOMEM;
	}
	if (!error) {
		new->pid = child_fork(fds, EXEC_FD + 1);
		if (!new->pid)
			spawn_run(request);
		error = new->pid < 0 ? -errno : 0;
	}
	if (error) {
		output_error(request->id, -error, "the agent cannot start a child");
		close_pipes(pipes);
		free(new);
		return;
	}

	new->id = request->id;
	new->stdin_fd = pipes[0][1];
	new->streams[0].fd = pipes[1][0];
	new->streams[1].fd = pipes[2][0];
	new->exec_fd = pipes[3][0];
	close(pipes[0][0]);
	close(pipes[1][1]);
	close(pipes[2][1]);
	close(pipes[3][1]);
	new->exec_watched = WATCH_NONE;
	new->stdin_watched = WATCH_NONE;
	new->streams[0].watched = WATCH_NONE;
	new->streams[1].watched = WATCH_NONE;
	new->next = spawned_programs;
	spawned_programs = new;
}

/* End of file without data means that exec succeeded: it closed the pipe. */
static void spawn_exec_done(struct spawned *spawned)
{
	struct text *json;
	ssize_t len;
	int error;

	len = read(spawned->exec_fd, &error, sizeof(error));
	if (len < 0 && errno == EINTR)
		return;
	close_fd(&spawned->exec_fd);
	spawned->started = true;
	if (len == sizeof(error)) {
		spawned->failed = true;
		output_error(spawned->id, error, NULL);
		return;
	}
	json = output_reply(spawned->id);
	json_add_number(json, "pid", spawned->pid);
	output_end_reply(json, 0);
}

/* @whole: a newline follows. */
static void stream_report(const struct spawned *spawned, const struct stream *stream, size_t from,
			  size_t to, bool whole)
{
	struct text *json = output_line();

	json_begin(json, '{');
	json_add_string(json, "event", "line");
	json_add_number(json, "pid", spawned->pid);
	json_add_string(json, "stream", stream_names[stream - spawned->streams]);
	json_add_text(json, "text", stream->text.data + from, to - from);
	if (!whole)
		json_add_bool(json, "partial", true);
	json_end_line(json);
}

static void stream_receive(const struct spawned *spawned, struct stream *stream)
{
	struct text *text = &stream->text;
	size_t from = 0, to;
	char *newline;
	ssize_t len;

	text_reserve(text, AGENT_READ_SIZE);
	len = read(stream->fd, text->data + text->len, AGENT_READ_SIZE);
	if (len < 0 && errno == EINTR)
		return;
	if (len <= 0) {
		if (text->len && !spawned->failed)
			stream_report(spawned, stream, 0, text->len, false);
		text_free(text);
		close_fd(&stream->fd);
		return;
	}
	text->len += len;

	to = stream->searched;
	while ((newline = memchr(text->data + to, '\n', text->len - to))) {
		to = newline - text->data;
		stream_report(spawned, stream, from, to, true);
		from = ++to;
	}
	if (text->len - from >= AGENT_EVENT_MAX) {
		stream_report(spawned, stream, from, text->len, false);
		from = text->len;
	}
	text_drop(text, from);
	stream->searched = text->len;
	if (!text->len)
		text_free(text);
}

/* Writes as much as the pipe takes now; the rest stays queued. */
static void spawn_feed(struct spawned *spawned)
{
	struct input *input;
	ssize_t len;
	int error;

	while ((input = spawned->inputs)) {
		error = 0;
		if (spawned->stdin_fd < 0) {
			error = EPIPE;
		} else if (input->close) {
			close_fd(&spawned->stdin_fd);
		} else if (input->done < input->len) {
			len = write(spawned->stdin_fd, input->text + input->done,
				    input->len - input->done);
			if (len < 0 && errno == EAGAIN)
				return;
			if (len < 0 && errno != EINTR) {
				error = errno;
				close_fd(&spawned->stdin_fd);
			}
			if (len > 0)
				input->done += len;
			if (!error && input->done < input->len)
				continue;
		}
		output_error(input->id, error, NULL);
		spawned->inputs = input->next;
		free(input);
	}
}

static void spawn_queue(const struct request *request, const char *data, size_t len, bool close)
{
	struct spawned *spawned;
	struct input *input, **end;
	long long pid;

	if (!parse_number(request->args[0].text, INT_MAX, &pid)) {
		output_error(request->id, EINVAL, "PID is not a number");
		return;
	}
	for (spawned = spawned_programs; spawned; spawned = spawned->next)
		if (spawned->pid == pid && spawned->started && !spawned->ended)
			break;
	if (!spawned) {
		output_error(request->id, ESRCH, "no spawned program is running with this pid");
		return;
	}
	input = malloc(sizeof(*input) + len);
	if (!input) {
		output_error(request->id, ENOMEM, NULL);
		return;
	}
	*input = (struct input){ .id = request->id, .close = close, .len = len };
	memcpy(input->text, data, len);
	for (end = &spawned->inputs; *end; end = &(*end)->next)
		;
	*end = input;
	spawn_feed(spawned);
}

void spawn_stdin(const struct request *request)
{
	spawn_queue(request, request->args[1].text, request->args[1].len, false);
}

void spawn_close_stdin(const struct request *request)
{
	spawn_queue(request, "", 0, true);
}

void spawn_watch(void)
{
	struct spawned *spawned;
	struct stream *stream;

	for (spawned = spawned_programs; spawned; spawned = spawned->next) {
		spawned->exec_watched = watch_add(spawned->exec_fd, POLLIN);
		spawned->stdin_watched = spawned->inputs ? watch_add(spawned->stdin_fd, POLLOUT) :
				   WATCH_NONE;
		for (stream = spawned->streams; stream < spawned->streams + 2; stream++)
			stream->watched = spawned->started ? watch_add(stream->fd, POLLIN) :
					  WATCH_NONE;
	}
}

static void add_status(struct text *json, const struct spawned *spawned)
{
	json_add_number(json, "pid", spawned->pid);
	if (WIFSIGNALED(spawned->status)) {
		json_add_null(json, "code");
		json_add_number(json, "signal", WTERMSIG(spawned->status));
	} else {
		json_add_number(json, "code", WEXITSTATUS(spawned->status));
		json_add_null(json, "signal");
	}
}

static void spawn_report_exit(const struct spawned *spawned)
{
	struct text *json = output_line();

	json_begin(json, '{');
	json_add_string(json, "event", "exit");
	add_status(json, spawned);
	json_end_line(json);
}

/* Reads what an ended program has written; true when another process has the stream open. */
static bool stream_is_held(const struct spawned *spawned, struct stream *stream)
{
	unsigned int reads;

	for (reads = 0; reads < LAST_READS && stream->fd >= 0; reads++) {
		struct pollfd ready = { .fd = stream->fd, .events = POLLIN };

		if (poll(&ready, 1, 0) <= 0)
			break;
		stream_receive(spawned, stream);
	}
	return stream->fd >= 0;
}

/* A program has ended, and another process has its output open: its inode numbers say which. */
static void spawn_report_held(struct spawned *spawned)
{
	struct text *json;
	struct stat status;
	bool held[2];
	int n;

	spawned->told = true;
	for (n = 0; n < 2; n++)
		held[n] = stream_is_held(spawned, &spawned->streams[n]);
	if (!held[0] && !held[1])
		return;
	json = output_line();
	json_begin(json, '{');
	json_add_string(json, "event", "ended");
	add_status(json, spawned);
	for (n = 0; n < 2; n++) {
		if (held[n] && !fstat(spawned->streams[n].fd, &status))
			json_add_number(json, stream_names[n], status.st_ino);
		else
			json_add_null(json, stream_names[n]);
	}
	json_end_line(json);
}

/* Returns whether the program has ended and both its streams have. */
static bool spawn_serve_one(struct spawned *spawned)
{
	struct stream *stream;

	if (watch_result(spawned->exec_watched))
		spawn_exec_done(spawned);
	for (stream = spawned->streams; stream < spawned->streams + 2; stream++)
		if (watch_result(stream->watched))
			stream_receive(spawned, stream);
	if (spawned->ended)
		close_fd(&spawned->stdin_fd);
	if (spawned->ended || watch_result(spawned->stdin_watched))
		spawn_feed(spawned);
	if (spawned->ended && spawned->started && !spawned->failed && !spawned->told)
		spawn_report_held(spawned);
	return spawned->ended && spawned->started && spawned->streams[0].fd < 0 &&
	       spawned->streams[1].fd < 0;
}

void spawn_serve(void)
{
	struct spawned **link = &spawned_programs, *spawned;

	while ((spawned = *link)) {
		if (!spawn_serve_one(spawned)) {
			link = &spawned->next;
			continue;
		}
		if (!spawned->failed)
			spawn_report_exit(spawned);
		*link = spawned->next;
		free(spawned);
	}
}

bool spawn_reaped(pid_t pid, int status)
{
	struct spawned *spawned;

	for (spawned = spawned_programs; spawned; spawned = spawned->next) {
		if (spawned->pid == pid && !spawned->ended) {
			spawned->ended = true;
			spawned->status = status;
			return true;
		}
	}
	return false;
}

bool spawn_kill_all(void)
{
	struct spawned *spawned;
	bool any = false;

	for (spawned = spawned_programs; spawned; spawned = spawned->next) {
		child_kill(spawned->pid, spawned->ended);
		any |= !spawned->ended;
	}
	return any;
}
