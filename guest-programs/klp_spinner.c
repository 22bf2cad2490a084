// SPDX-License-Identifier: GPL-2.0-only
/*
 * A second thread spins in user mode on one CPU, and its process sleeps.
 *
 *	klp-spinner CPU
 *
 * The thread prints {"spinning":TID} when it is on that CPU, and makes no system
 * call after that. Ends at SIGTERM or at the end of its input.
 */

#include <err.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib_common.h"
#include "lib_stop.h"
#include "lib_text.h"

#define SECOND_US	1000000
#define USAGE_EXIT	2

static long long cpu;

static void *spin(void *unused)
{
	struct text json = {};
	cpu_set_t only;

	CPU_ZERO(&only);
	CPU_SET(cpu, &only);
	if (sched_setaffinity(0, sizeof(only), &only))
		err(1, "sched_setaffinity");
	json_begin(&json, '{');
	json_add_number(&json, "spinning", gettid());
	json_end_line(&json);
	if (write_all(STDOUT_FILENO, json.data, json.len))
		exit(1);
	text_free(&json);
	for (;;)
		__asm__ volatile("" : : : "memory");
	return unused;
}

int main(int argc, char **argv)
{
	pthread_t thread;
	int error;

	if (argc != 2 || !parse_number(argv[1], CPU_SETSIZE - 1, &cpu))
		errx(USAGE_EXIT, "usage: klp-spinner CPU, up to %d", CPU_SETSIZE - 1);
	stop_prepare();
	error = pthread_create(&thread, NULL, spin, NULL);
	if (error)
		errx(1, "pthread_create: %s", strerror(error));
	while (!stop_wait(now_us() + SECOND_US))
		;
	return 0;
}
