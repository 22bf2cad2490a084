// SPDX-License-Identifier: GPL-2.0-only
/*
 * Executes a program whose name the kernel reads from the page of a gate of
 * /dev/klp_gate (livepatch-modules/klp_target_gate.c): the task sleeps there.
 *
 *	klp-exec [thread] N PROGRAM [ARGUMENT]...
 *
 * With "thread", a second thread executes it while the first sleeps.
 *
 * Prints {"executing":PID,"tid":T} and waits for a line on standard input (close
 * the gate before).
 */

#include <err.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lib_common.h"
#include "lib_text.h"

#define GATES		8
#define GATE_SIZE	4096	/* the page size of x86_64 */
#define USAGE_EXIT	2

static char **program;
static char *name;	/* in the gate's page */

static void *execute(void *unused)
{
	struct text json = {};
	char line[64];

	json_begin(&json, '{');
	json_add_number(&json, "executing", getpid());
	json_add_number(&json, "tid", gettid());
	json_end_line(&json);
	if (write_all(STDOUT_FILENO, json.data, json.len))
		exit(1);
	text_free(&json);
	if (read(STDIN_FILENO, line, sizeof(line)) <= 0)
		errx(1, "standard input ended before the exec");
	execv(name, program);
	err(1, "execv");
	return unused;
}

static void execute_in_thread(void)
{
	pthread_t thread;
	int error;

	error = pthread_create(&thread, NULL, execute, NULL);
	if (error)
		errx(1, "pthread_create: %s", strerror(error));
	for (;;)
		pause();
}

static char *map_page(int device, long long gate)
{
	char *page = mmap(NULL, GATE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, device,
			  gate * GATE_SIZE);

	if (page == MAP_FAILED)
		err(1, "mmap");
	return page;
}

int main(int argc, char **argv)
{
	bool thread = argc > 1 && !strcmp(argv[1], "thread");
	long long gate;
	int device;

	program = argv + 2 + thread;
	if (argc < 3 + thread || !parse_number(program[-1], GATES - 1, &gate) ||
	    strlen(program[0]) >= GATE_SIZE)
		errx(USAGE_EXIT, "usage: klp-exec [thread] N PROGRAM [ARGUMENT]..., N up to %d",
		     GATES - 1);
	device = open("/dev/klp_gate", O_RDWR | O_CLOEXEC);
	if (device < 0)
		err(1, "/dev/klp_gate");
	/* It is filled through another mapping, so that the kernel's access still faults. */
	memcpy(map_page(device, gate), program[0], strlen(program[0]) + 1);
	name = map_page(device, gate);
	if (thread)
		execute_in_thread();
	execute(NULL);
	return 0;
}
