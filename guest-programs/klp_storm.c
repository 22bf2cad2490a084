// SPDX-License-Identifier: GPL-2.0-only
/*
 * Forks again and again, without a pause or one time in each interval.
 *
 *	klp-storm [INTERVAL_US]
 *
 * A child ends at once, but for one of every 32, which sleeps until the end; of
 * those there are 16 at most, and then the oldest ends. Says {"storming":PID}
 * first and {"forks":N,"reaped":N} at its end, which is at SIGTERM or at the end
 * of its input.
 */

#include <err.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "klp_common.h"
#include "klp_ending.h"
#include "klp_text.h"

#define STAYS_ONE_IN	32
#define STAYING		16
#define MOST_US		(3600 * 1000000LL)
#define USAGE_EXIT	2

static pid_t parent;
static pid_t staying[STAYING];
static long long forks, reaped;

static void say(const char *key, long long value, const char *key2, long long value2)
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
	/* The signal that asks for the end interrupts the wait, and is seen after it. */
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
		/* None is left behind that has our output open. */
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

	if (argc > 2 || (argc == 2 && !parse_number(argv[1], MOST_US, &interval_us)))
		errx(USAGE_EXIT, "usage: klp-storm [INTERVAL_US]");
	ending_prepare();
	parent = getpid();
	say("storming", parent, NULL, 0);
	do {
		fork_once();
	} while (!ending_wait(now_us() + interval_us));
	for (i = 0; i < STAYING; i++)
		if (staying[i])
			end(staying[i]);
	say("forks", forks, "reaped", reaped);
	return 0;
}
