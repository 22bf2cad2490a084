// SPDX-License-Identifier: GPL-2.0-only
/*
 * Keeps one CPU from all tasks of the fair class: spins there in user mode, as a
 * real-time task (SCHED_FIFO) without a limit.
 *
 *	klp-hog CPU
 *
 * It takes off the limits that the scheduler has for such tasks, prints
 * {"hog":PID}, and spins until a signal ends it.
 */

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib_common.h"
#include "lib_text.h"

#define PRIORITY	50
#define MOST_CPUS	1024
#define USAGE_EXIT	2

/* A limit whose file is missing does not exist. */
static void write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0) {
		if (errno != ENOENT)
			err(1, "%s", path);
		return;
	}
	if (write_all(fd, text, strlen(text)))
		err(1, "%s", path);
	close(fd);
}

int main(int argc, char **argv)
{
	struct sched_param param = { .sched_priority = PRIORITY };
	struct text json = {};
	long long cpu;
	cpu_set_t set;
	char path[64];

	if (argc != 2 || !parse_number(argv[1], MOST_CPUS - 1, &cpu))
		errx(USAGE_EXIT, "usage: klp-hog CPU");

	/* What is left to others of each second; from 6.12 on, by a server of theirs. */
	write_file("/proc/sys/kernel/sched_rt_runtime_us", "-1");
	snprintf(path, sizeof(path), "/sys/kernel/debug/sched/fair_server/cpu%lld/runtime", cpu);
	write_file(path, "0");

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set) ||
	    sched_setscheduler(0, SCHED_FIFO, &param))
		err(1, "SCHED_FIFO on CPU %lld", cpu);

	json_begin(&json, '{');
	json_add_number(&json, "hog", getpid());
	json_end_line(&json);
	if (write_all(STDOUT_FILENO, json.data, json.len))
		exit(1);
	for (;;)
		;
}
