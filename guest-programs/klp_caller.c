// SPDX-License-Identifier: GPL-2.0-only
/*
 * Calls a function repeatedly by reading a file that calls it, and reports which
 * body ran in which patch state.
 *
 *	klp-caller PATH [INTERVAL_US]
 *
 * Prints {"t_us","patch_state_before","text","patch_state_after"} when one of
 * the last three differs from the previous call, and {"calls":N} at its end.
 * When both patch states are equal, the text was returned in that state.
 */

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib_common.h"
#include "lib_proc.h"
#include "lib_stop.h"
#include "lib_text.h"

#define INTERVAL_US	1000
#define MAX_US		(3600 * 1000000LL)
#define NO_STATE	(-2)	/* not a value of the file */
#define USAGE_EXIT	2

struct call {
	int before;
	int after;
	int error;
	size_t len;
	char text[65536];
};

static int state_fd;

/* The state of this task. The exit to user mode switches it at the latest. */
static int own_state(void)
{
	char text[16];
	ssize_t len;

	if (state_fd < 0)
		return NO_STATE;
	len = pread(state_fd, text, sizeof(text) - 1, 0);
	if (len < 0)
		err(1, "/proc/self/patch_state");
	text[len] = '\0';
	return proc_parse_state(text);
}

static void read_text(const char *path, struct call *call)
{
	ssize_t len;
	int fd;

	call->len = 0;
	call->error = 0;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		call->error = errno;
		return;
	}
	while (call->len < sizeof(call->text)) {
		len = read(fd, call->text + call->len, sizeof(call->text) - call->len);
		if (len < 0)
			call->error = errno;
		if (len <= 0)
			break;
		call->len += len;
	}
	close(fd);
}

static bool is_same(const struct call *one, const struct call *other)
{
	return one->before == other->before && one->after == other->after &&
	       one->error == other->error && one->len == other->len &&
	       !memcmp(one->text, other->text, one->len);
}

static void add_state(struct text *json, const char *key, int state)
{
	if (state == NO_STATE)
		json_add_null(json, key);
	else
		json_add_number(json, key, state);
}

static void print(struct text *json)
{
	if (write_all(STDOUT_FILENO, json->data, json->len))
		exit(1);
	json->len = 0;
}

static void print_call(struct text *json, const struct call *call)
{
	json_begin(json, '{');
	json_add_number(json, "t_us", now_us());
	add_state(json, "patch_state_before", call->before);
	if (call->error) {
		json_add_null(json, "text");
		json_add_number(json, "errno", call->error);
	} else {
		json_add_text(json, "text", call->text, call->len);
	}
	add_state(json, "patch_state_after", call->after);
	json_end_line(json);
	print(json);
}

int main(int argc, char **argv)
{
	static struct call calls[2];
	struct call *call = &calls[0], *last = NULL;
	long long interval_us = INTERVAL_US, count = 0;
	struct text json = {};

	if (argc < 2 || argc > 3 || (argc == 3 && !parse_number(argv[2], MAX_US, &interval_us)))
		errx(USAGE_EXIT, "usage: klp-caller PATH [INTERVAL_US]");

	stop_prepare();
	state_fd = open("/proc/self/patch_state", O_RDONLY | O_CLOEXEC);
	if (state_fd < 0 && errno != ENOENT)
		err(1, "/proc/self/patch_state");
	do {
		call->before = own_state();
		read_text(argv[1], call);
		call->after = own_state();
		/* The signal may have interrupted the call. */
		if (stop_signalled())
			break;
		count++;
		if (!last || !is_same(call, last)) {
			print_call(&json, call);
			last = call;
			call = &calls[call == calls];
		}
	} while (!stop_wait(now_us() + interval_us));

	json_begin(&json, '{');
	json_add_number(&json, "calls", count);
	json_end_line(&json);
	print(&json);
	return 0;
}
