// SPDX-License-Identifier: GPL-2.0-only
/*
 * Forks repeatedly, without a pause or once in each interval.
 *
 *	klp-storm [INTERVAL_US]
 *
 * A child exits at once, except one of every 32, which sleeps; of those there
 * are 16 at most: the oldest is killed for the next. Prints {"storming":PID}
 * first and {"forks":N,"reaped":N} at its end, which is at SIGTERM or at the end
 * of its input.
 */

#include <err.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib_common.h"
#include "lib_stop.h"
#include "lib_text.h"

#define STAYS_ONE_IN	32
#define STAYING		16
#define MAX_US		(3600 * 1000000LL)
#define USAGE_EXIT	2

static pid_t parent;
static pid_t staying[STAYING];
static long long forks, reaped;

static void print(const char *key, long long value, const char *key2, long long value2)
{
	struct text json = {};

	json_begin(&json, '{');
	json_add_number(&json, key, value);
	if (key2)
		json_add_number(&json, key2, value2);
	json_end_line(&json);
	if (write_all(STDOUT_FILENO, json.data, json.len))
		exit(1);
	text_free(&json);
}

static void reap(pid_t pid)
{
	/* A signal to end interrupts the wait, and is noticed after it. */
	while (waitpid(pid, NULL, 0) != pid)
		if (errno != EINTR)
			err(1, "waitpid");
	reaped++;
}

static void end(pid_t pid)
{
	kill(pid, SIGKILL);
	reap(pid);
}

static void fork_once(void)
{
	bool stays = forks % STAYS_ONE_IN == 0;
	pid_t *place = &staying[forks / STAYS_ONE_IN % STAYING];
	pid_t pid;

	pid = fork();
	if (pid < 0)
		err(1, "fork");
	if (!pid) {
		/* No child outlives the parent and keeps its output open. */
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		while (stays && getppid() == parent)
			pause();
		_exit(0);
	}
	forks++;
	if (!stays) {
		reap(pid);
		return;
	}
	if (*place)
		end(*place);
	*place = pid;
}

int main(int argc, char **argv)
{
	long long interval_us = 0;
	unsigned int i;

	if (argc > 2 || (argc == 2 && !parse_number(argv[1], MAX_US, &interval_us)))
		errx(USAGE_EXIT, "usage: klp-storm [INTERVAL_US]");
	stop_prepare();
	parent = getpid();
	print("storming", parent, NULL, 0);
	do {
		fork_once();
	} while (!stop_wait(now_us() + interval_us));
	for (i = 0; i < STAYING; i++)
		if (staying[i])
			end(staying[i]);
	print("forks", forks, "reaped", reaped);
	return 0;
}
