// SPDX-License-Identifier: GPL-2.0-only

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "agent_output.h"
#include "lib_common.h"

#define FLUSH_AT	65536

static struct text output;

static void output_write(const char *data, size_t len)
{
	/* The host has closed its end. The children die with the agent, see child_fork(). */
	if (write_all(STDOUT_FILENO, data, len))
		_exit(1);
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
