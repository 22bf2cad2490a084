// SPDX-License-Identifier: GPL-2.0-only
/*
 * Gives tasks a real-time priority, of class SCHED_FIFO.
 *
 *	klp-fifo PRIORITY TID...	sets that of threads, and ends
 *	klp-fifo PRIORITY -- COMMAND...	runs the command with it
 *
 * On a CPU, such a task runs until it sleeps, or until one of higher priority is
 * to run.
 */

#include <err.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define USAGE_EXIT	2
#define EXEC_EXIT	127	/* as a shell's, when there is no such command */

static void refuse(void)
{
	errx(USAGE_EXIT, "usage: klp-fifo PRIORITY TID... | klp-fifo PRIORITY -- COMMAND...");
}

static long number(const char *text)
{
	char *end;
	long value = strtol(text, &end, 10);

	if (!*text || *end || value <= 0)
		refuse();
	return value;
}

static void set(long tid, int priority)
{
	struct sched_param param = { .sched_priority = priority };

	if (sched_setscheduler(tid, SCHED_FIFO, &param))
		err(1, "priority %d for thread %ld", priority, tid);
}

int main(int argc, char **argv)
{
	int n, priority;

	if (argc < 3)
		refuse();
	priority = number(argv[1]);
	if (!strcmp(argv[2], "--")) {
		if (argc < 4)
			refuse();
		set(getpid(), priority);
		execvp(argv[3], &argv[3]);
		err(EXEC_EXIT, "%s", argv[3]);
	}
	for (n = 2; n < argc; n++)
		set(number(argv[n]), priority);
	return 0;
}
