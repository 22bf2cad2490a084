// SPDX-License-Identifier: GPL-2.0-only
/*
 * Finds the longest time in which a task that always wants to run did not.
 *
 *	klp-stall
 *
 * Each round is one cheap system call, poll(2) of its input, so the task passes
 * the boundary to user mode all the time. Prints {"spinning":PID} first, and for
 * each read of its input the time since the previous one:
 * {"us":SPAN,"rounds":N,"longest_us":GAP}, where GAP is the longest time between
 * two rounds. Ends at the end of its input, or at SIGTERM.
 */

#include <err.h>
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

#include "lib_common.h"
#include "lib_stop.h"
#include "lib_text.h"

#define USAGE_EXIT	2

static void print(struct text *json)
{
	json_end_line(json);
	if (write_all(STDOUT_FILENO, json->data, json->len))
		exit(1);
	json->len = 0;
}

/*
 * Spins until there is input or a signal, and prints what it saw since @start,
 * the end of the previous span, which becomes the end of this one; returns
 * whether it is to end. Reads the input before it prints: who waits for the line
 * may write again at once.
 */
static bool watch(struct text *json, long long *start)
{
	struct pollfd input = { .fd = STDIN_FILENO, .events = POLLIN };
	long long longest = 0, rounds = 0, last = *start, now;
	bool ends;

	do {
		ends = poll(&input, 1, 0) || stop_signalled();
		now = now_us();
		if (now - last > longest)
			longest = now - last;
		last = now;
		rounds++;
	} while (!ends);
	ends = stop_wait(0);
	json_begin(json, '{');
	json_add_number(json, "us", now - *start);
	json_add_number(json, "rounds", rounds);
	json_add_number(json, "longest_us", longest);
	print(json);
	*start = now;
	return ends;
}

int main(int argc, char **argv)
{
	long long now = now_us();
	struct text json = {};

	(void)argv;
	if (argc != 1)
		errx(USAGE_EXIT, "usage: klp-stall");
	stop_prepare();
	json_begin(&json, '{');
	json_add_number(&json, "spinning", getpid());
	print(&json);
	while (!watch(&json, &now))
		;
	return 0;
}
