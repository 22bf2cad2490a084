// SPDX-License-Identifier: GPL-2.0-only
/*
 * Enters a gate of /dev/klp_gate (livepatch-modules/klp_target_gate.c), once.
 *
 *	klp-gate read N		by pread()
 *	klp-gate fault N	by the first touch of the mapped page N
 *	klp-gate thread N	by pread() in a second thread, while the first sleeps
 *
 * Prints {"entering":N,"tid":T} before and {"left":N,"tid":T,"value":V,"errno":E}
 * after; V is the line that was read, or null.
 *
 * checkpatch: ignore VOLATILE: an access to the page is the purpose
 */

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lib_common.h"
#include "lib_text.h"

#define GATES		8
#define GATE_SIZE	4096	/* the page size of x86_64 */
#define USAGE_EXIT	2

static long long gate;
static int device;

static void print_entering(void)
{
	struct text json = {};

	json_begin(&json, '{');
	json_add_number(&json, "entering", gate);
	json_add_number(&json, "tid", gettid());
	json_end_line(&json);
	if (write_all(STDOUT_FILENO, json.data, json.len))
		exit(1);
}

static void print_left(const char *value, ssize_t len, int error)
{
	struct text json = {};

	json_begin(&json, '{');
	json_add_number(&json, "left", gate);
	json_add_number(&json, "tid", gettid());
	if (value)
		json_add_text(&json, "value", value, len);
	else
		json_add_null(&json, "value");
	json_add_number(&json, "errno", error);
	json_end_line(&json);
	if (write_all(STDOUT_FILENO, json.data, json.len))
		exit(1);
}

static void enter_by_read(void)
{
	char value[64];
	ssize_t len;

	print_entering();
	len = pread(device, value, sizeof(value), gate * GATE_SIZE);
	if (len < 0)
		print_left(NULL, 0, errno);
	else
		print_left(value, len && value[len - 1] == '\n' ? len - 1 : len, 0);
}

static void enter_by_fault(void)
{
	volatile const char *page;

	page = mmap(NULL, GATE_SIZE, PROT_READ, MAP_SHARED, device, gate * GATE_SIZE);
	if (page == MAP_FAILED)
		err(1, "mmap");
	print_entering();
	(void)*page;
	print_left(NULL, 0, 0);
}

static void *second_thread(void *unused)
{
	enter_by_read();
	exit(0);
	return unused;
}

static void enter_by_thread(void)
{
	pthread_t thread;
	int error;

	error = pthread_create(&thread, NULL, second_thread, NULL);
	if (error)
		errx(1, "pthread_create: %s", strerror(error));
	for (;;)
		pause();
}

static const struct {
	const char *name;
	void (*enter)(void);
} ways[] = {
	{ "read", enter_by_read },
	{ "fault", enter_by_fault },
	{ "thread", enter_by_thread },
};

int main(int argc, char **argv)
{
	unsigned int way = ARRAY_SIZE(ways);

	if (argc == 3 && parse_number(argv[2], GATES - 1, &gate))
		for (way = 0; way < ARRAY_SIZE(ways); way++)
			if (!strcmp(argv[1], ways[way].name))
				break;
	if (way == ARRAY_SIZE(ways))
		errx(USAGE_EXIT, "usage: klp-gate read|fault|thread N, N from 0 to %d", GATES - 1);

	device = open("/dev/klp_gate", O_RDWR | O_CLOEXEC);
	if (device < 0)
		err(1, "/dev/klp_gate");
	ways[way].enter();
	return 0;
}
