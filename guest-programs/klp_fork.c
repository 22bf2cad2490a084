// SPDX-License-Identifier: GPL-2.0-only
/*
 * Forks between two gates of /dev/klp_gate (livepatch-modules/klp_target_gate.c).
 *
 *	klp-fork PARENT CHILD
 *
 * The arguments of clone3() are in the page of gate PARENT: the parent sleeps
 * there before anything is copied. The kernel writes the child's thread id into
 * the page of gate CHILD: the child sleeps there before it reaches user mode.
 * Says {"ready":PID}, waits for a line on standard input (close the gates before),
 * and says {"forked":CHILD} when the parent is back in user mode.
 */

#include <err.h>
#include <linux/sched.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "klp_common.h"
#include "klp_text.h"

#define GATES		8
#define GATE_SIZE	4096	/* the page size of x86_64 */
#define USAGE_EXIT	2

static void say(const char *key, pid_t pid)
{
	struct text json = {};

	json_begin(&json, '{');
	json_add_number(&json, key, pid);
	json_end_line(&json);
	if (write_all(STDOUT_FILENO, json.data, json.len))
		exit(1);
}

static char *map_gate(int device, long long gate)
{
	char *page;

	page = mmap(NULL, GATE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, device, gate * GATE_SIZE);
	if (page == MAP_FAILED)
		err(1, "mmap");
	return page;
}

/* Fill the page through a mapping of its own: the other one is still untouched afterwards. */
static void put_arguments(int device, long long gate, const struct clone_args *arguments)
{
	char *page = map_gate(device, gate);

	memcpy(page, arguments, sizeof(*arguments));
	munmap(page, GATE_SIZE);
}

int main(int argc, char **argv)
{
	struct clone_args arguments = { .flags = CLONE_CHILD_SETTID, .exit_signal = SIGCHLD };
	long long parent, child;
	int device, status;
	char *page;
	pid_t pid;

	if (argc != 3 || !parse_number(argv[1], GATES - 1, &parent) ||
	    !parse_number(argv[2], GATES - 1, &child) || parent == child)
		errx(USAGE_EXIT, "usage: klp-fork PARENT CHILD, two gates from 0 to %d", GATES - 1);

	device = open("/dev/klp_gate", O_RDWR | O_CLOEXEC);
	if (device < 0)
		err(1, "/dev/klp_gate");
	arguments.child_tid = (uintptr_t)map_gate(device, child);
	put_arguments(device, parent, &arguments);
	page = map_gate(device, parent);

	say("ready", getpid());
	if (getchar() == EOF)
		errx(1, "nobody said go");
	pid = syscall(SYS_clone3, page, sizeof(arguments));
	if (pid < 0)
		err(1, "clone3");
	if (!pid)
		_exit(0);
	say("forked", pid);
	if (waitpid(pid, &status, 0) != pid || status)
		errx(1, "the child failed");
	return 0;
}
