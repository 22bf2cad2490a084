// SPDX-License-Identifier: GPL-2.0-only
/*
 * Has N threads enter one gate of /dev/klp_gate, where they sleep while it is
 * closed (livepatch-modules/klp_target_gate.c).
 *
 *	klp-sleepers N GATE
 *
 * Prints {"entering":N} when all of them have been started. At the end of its
 * input it waits for them (open the gate before) and prints {"left":N}.
 */

#include <err.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib_common.h"
#include "lib_text.h"

#define GATES		8
#define GATE_SIZE	4096	/* the page size of x86_64 */
#define MAX_THREADS	10000
#define STACK_SIZE	(64 * 1024)
#define USAGE_EXIT	2

static long long gate;
static int device;
static pthread_barrier_t all_started;

static void print(const char *key, long long value)
{
	struct text json = {};

	json_begin(&json, '{');
	json_add_number(&json, key, value);
	json_end_line(&json);
	if (write_all(STDOUT_FILENO, json.data, json.len))
		exit(1);
	text_free(&json);
}

static void *sleeper(void *unused)
{
	char value[64];

	pthread_barrier_wait(&all_started);
	if (pread(device, value, sizeof(value), gate * GATE_SIZE) < 0)
		err(1, "/dev/klp_gate");
	return unused;
}

int main(int argc, char **argv)
{
	pthread_attr_t attributes;
	pthread_t *threads;
	long long number, i;
	char input[64];
	int error;

	if (argc != 3 || !parse_number(argv[1], MAX_THREADS, &number) || !number ||
	    !parse_number(argv[2], GATES - 1, &gate))
		errx(USAGE_EXIT, "usage: klp-sleepers N GATE, N up to %d, GATE up to %d",
		     MAX_THREADS, GATES - 1);

	device = open("/dev/klp_gate", O_RDWR | O_CLOEXEC);
	if (device < 0)
		err(1, "/dev/klp_gate");
	threads = calloc(number, sizeof(*threads));
	if (!threads)
		err(1, "calloc");
	pthread_attr_init(&attributes);
	pthread_attr_setstacksize(&attributes, STACK_SIZE);
	pthread_barrier_init(&all_started, NULL, number + 1);
	for (i = 0; i < number; i++) {
		error = pthread_create(&threads[i], &attributes, sleeper, NULL);
		if (error)
			errx(1, "pthread_create: %s", strerror(error));
	}
	pthread_barrier_wait(&all_started);
	print("entering", number);
	while (read(STDIN_FILENO, input, sizeof(input)) > 0)
		;
	for (i = 0; i < number; i++)
		pthread_join(threads[i], NULL);
	print("left", number);
	return 0;
}
