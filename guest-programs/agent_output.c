// SPDX-License-Identifier: GPL-2.0-only

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

#include "agent_child.h"
#include "agent_output.h"

#define FLUSH_AT	65536

static struct text output;

static bool stays;

void output_stay(void)
{
	stays = true;
	/* Only in a write that does not wait is a port noticed that its host has closed. */
	fcntl(STDOUT_FILENO, F_SETFL, fcntl(STDOUT_FILENO, F_GETFL) | O_NONBLOCK);
}

void output_end(void)
{
	dup2(child_null_fd, STDOUT_FILENO);
}

/* Returns false when the host has closed its end. */
static bool output_wait(void)
{
	struct pollfd room = { .fd = STDOUT_FILENO, .events = POLLOUT };

	while (ppoll(&room, 1, NULL, NULL) < 0)
		;
	return !(room.revents & POLLHUP);
}

static void output_write(const char *data, size_t len)
{
	ssize_t done;

	while (len) {
		done = write(STDOUT_FILENO, data, len);
		if (done > 0) {
			data += done;
			len -= done;
		} else if (errno == EAGAIN ? !output_wait() : errno != EINTR) {
			/* The children die with the agent, see child_fork(). */
			if (!stays)
				_exit(1);
			output_end();
			return;
		}
	}
}

void output_flush(void)
{
	output_write(output.data, output.len);
	output.len = 0;
	if (output.room > 2 * FLUSH_AT)
		text_free(&output);
}

void output_discard(void)
{
	output.len = 0;
}

struct text *output_line(void)
{
	if (output.len >= FLUSH_AT)
		output_flush();
	return &output;
}

void output_whole_line(const char *line, size_t len)
{
	if (len < FLUSH_AT) {
		text_put(output_line(), line, len);
		return;
	}
	output_flush();
	output_write(line, len);
}

void output_ready(void)
{
	struct text *json = output_line();

	json_begin(json, '{');
	json_add_string(json, "event", "ready");
	json_end_line(json);
	output_flush();
}

void output_taken(size_t bytes)
{
	struct text *json = output_line();

	json_begin(json, '{');
	json_add_string(json, "event", "taken");
	json_add_number(json, "bytes", bytes);
	json_end_line(json);
}

struct text *output_reply(long long id)
{
	struct text *json = output_line();

	json_begin(json, '{');
	json_add_number(json, "id", id);
	return json;
}

void output_end_reply(struct text *json, int error)
{
	json_add_number(json, "errno", error);
	json_end_line(json);
}

void output_error(long long id, int error, const char *what)
{
	struct text *json = output_reply(id);

	if (what)
		json_add_string(json, "error", what);
	output_end_reply(json, error);
}

int output_invalid(struct text *reply, const char *what)
{
	json_add_string(reply, "error", what);
	return -EINVAL;
}
