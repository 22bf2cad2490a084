// SPDX-License-Identifier: GPL-2.0-only
/*
 * Makes the system call getcpu(2), which livepatch-modules/klp_test_syscall.c
 * patches.
 *
 *	klp-syscall hammer	repeatedly, without a pause
 *	klp-syscall gate N	once; the kernel stores the result in the page of gate
 *				N, and so sleeps there while the gate is closed
 *
 * hammer prints {"t_us","value"} when the value differs from the previous call,
 * and {"calls":N} at its end. gate prints {"entering":N,"tid":T} before and
 * {"left":N,"tid":T,"value":V} after. The value is what the call returned.
 */

#include <err.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "lib_common.h"
#include "lib_stop.h"
#include "lib_text.h"

#define GATES		8
#define GATE_SIZE	4096	/* the page size of x86_64 */
#define BURST		1000	/* calls between two checks whether to end */
#define USAGE_EXIT	2

static void print(struct text *json)
{
	json_end_line(json);
	if (write_all(STDOUT_FILENO, json->data, json->len))
		exit(1);
	json->len = 0;
}

static void hammer(void)
{
	long long calls = 0;
	struct text json = {};
	long value, last = -1;
	int n;

	stop_prepare();
	do {
		for (n = 0; n < BURST; n++, calls++) {
			value = syscall(SYS_getcpu, NULL, NULL, NULL);
			if (value == last)
				continue;
			last = value;
			json_begin(&json, '{');
			json_add_number(&json, "t_us", now_us());
			json_add_number(&json, "value", value);
			print(&json);
		}
	} while (!stop_wait(0));

	json_begin(&json, '{');
	json_add_number(&json, "calls", calls);
	print(&json);
}

static void call_into_gate(long long gate)
{
	struct text json = {};
	void *page;
	int device;
	long value;

	device = open("/dev/klp_gate", O_RDWR | O_CLOEXEC);
	if (device < 0)
		err(1, "/dev/klp_gate");
	page = mmap(NULL, GATE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, device, gate * GATE_SIZE);
	if (page == MAP_FAILED)
		err(1, "mmap");

	json_begin(&json, '{');
	json_add_number(&json, "entering", gate);
	json_add_number(&json, "tid", gettid());
	print(&json);
	value = syscall(SYS_getcpu, page, NULL, NULL);
	json_begin(&json, '{');
	json_add_number(&json, "left", gate);
	json_add_number(&json, "tid", gettid());
	json_add_number(&json, "value", value);
	print(&json);
}

int main(int argc, char **argv)
{
	long long gate;

	if (argc == 2 && !strcmp(argv[1], "hammer"))
		hammer();
	else if (argc == 3 && !strcmp(argv[1], "gate") && parse_number(argv[2], GATES - 1, &gate))
		call_into_gate(gate);
	else
		errx(USAGE_EXIT, "usage: klp-syscall hammer, or gate N, N from 0 to %d", GATES - 1);
	return 0;
}
