// SPDX-License-Identifier: GPL-2.0-only
/*
 * Has a child enter a gate of /dev/klp_gate (livepatch-modules/klp_target_gate.c)
 * under ptrace(2), stopped before and after that system call.
 *
 *	klp-traced N
 *
 * Prints {"stopped":TID,"at":"entry"}, {"stopped":TID,"at":"exit"} and, when the
 * child has ended, {"left":N,"value":V}: V is the line that the child read. Waits
 * for a line on standard input before the child goes on from a stop.
 */

#include <err.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib_common.h"
#include "lib_text.h"

#define GATES		8
#define GATE_SIZE	4096	/* the page size of x86_64 */
#define VALUE_SIZE	64
#define USAGE_EXIT	2

static long long gate;
static int device;
static char *value;	/* shared by parent and child */

static void print(struct text *json)
{
	json_end_line(json);
	if (write_all(STDOUT_FILENO, json->data, json->len))
		exit(1);
	text_free(json);
}

static void print_stopped(pid_t child, const char *at)
{
	struct text json = {};

	json_begin(&json, '{');
	json_add_number(&json, "stopped", child);
	json_add_text(&json, "at", at, strlen(at));
	print(&json);
}

static void print_left(void)
{
	size_t len = strnlen(value, VALUE_SIZE);
	struct text json = {};

	if (len && value[len - 1] == '\n')
		len--;
	json_begin(&json, '{');
	json_add_number(&json, "left", gate);
	json_add_text(&json, "value", value, len);
	print(&json);
}

/* Returns the exit code. */
static int enter(void)
{
	if (ptrace(PTRACE_TRACEME) || raise(SIGSTOP))
		return 1;
	return pread(device, value, VALUE_SIZE - 1, gate * GATE_SIZE) < 0;
}

/* Lets the child go on to the next entry or exit of a system call. */
static void next_stop(pid_t child)
{
	int status;

	if (ptrace(PTRACE_SYSCALL, child, NULL, NULL))
		err(1, "PTRACE_SYSCALL");
	if (waitpid(child, &status, 0) != child || !WIFSTOPPED(status))
		errx(1, "the child was not stopped");
}

static void wait_for_line(void)
{
	char line[VALUE_SIZE];

	if (read(STDIN_FILENO, line, sizeof(line)) <= 0)
		errx(1, "standard input ended while the child was stopped");
}

static void trace(pid_t child)
{
	struct user_regs_struct regs;
	int status;

	if (waitpid(child, &status, 0) != child || !WIFSTOPPED(status))
		errx(1, "the child was not stopped");
	if (ptrace(PTRACE_SETOPTIONS, child, NULL, (void *)PTRACE_O_EXITKILL))
		err(1, "PTRACE_SETOPTIONS");
	do {
		next_stop(child);
		if (ptrace(PTRACE_GETREGS, child, NULL, &regs))
			err(1, "PTRACE_GETREGS");
	} while (regs.orig_rax != SYS_pread64);
	print_stopped(child, "entry");
	wait_for_line();
	next_stop(child);
	print_stopped(child, "exit");
	wait_for_line();
	if (ptrace(PTRACE_DETACH, child, NULL, NULL))
		err(1, "PTRACE_DETACH");
	if (waitpid(child, &status, 0) != child || status)
		errx(1, "the child failed");
	print_left();
}

int main(int argc, char **argv)
{
	pid_t child;

	if (argc != 2 || !parse_number(argv[1], GATES - 1, &gate))
		errx(USAGE_EXIT, "usage: klp-traced N, up to %d", GATES - 1);
	device = open("/dev/klp_gate", O_RDWR | O_CLOEXEC);
	if (device < 0)
		err(1, "/dev/klp_gate");
	value = mmap(NULL, GATE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (value == MAP_FAILED)
		err(1, "mmap");
	child = fork();
	if (child < 0)
		err(1, "fork");
	if (!child)
		_exit(enter());
	trace(child);
	return 0;
}
