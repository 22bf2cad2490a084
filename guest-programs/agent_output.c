// SPDX-License-Identifier: GPL-2.0-only
/*
 * What goes to the host: JSON lines, written whole. A slow reader slows the
 * agent down; nothing is dropped.
 */

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "agent.h"
#include "klp_common.h"

#define FLUSH_AT	65536

static struct text output;

static void output_write(const char *data, size_t len)
{
	/* Nobody listens any more. The children die with us, see child_fork(). */
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

/* What has not been flushed is not said. */
void output_forget(void)
{
	output.len = 0;
}

/* Where the next line is to be put, with its newline. */
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

/* The first line: who has started an agent for later knows from it that it waits. */
void output_ready(void)
{
	struct text *json = output_line();

	json_begin(json, '{');
	json_add_string(json, "event", "ready");
	json_end_line(json);
	output_flush();
}

/* The host waits for this before it sends more, where the line to us loses what comes too fast. */
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
