// SPDX-License-Identifier: GPL-2.0-only
/*
 * Forks once, and sleeps during the fork in gates of /dev/klp_gate
 * (livepatch-modules/klp_target_gate.c).
 *
 *	klp-fork [args=N] [pidfd=N] [ptid=N] [tid=N] [spin|vfork]
 *
 * Each option names a gate, and places in its page what the kernel accesses:
 *
 *	args	the arguments of clone3(): the parent sleeps before anything is copied
 *	pidfd	where CLONE_PIDFD stores the pidfd: the parent sleeps between
 *		dup_task_struct() and klp_copy_process()
 *	ptid	where CLONE_PARENT_SETTID stores the child's id: the parent sleeps after
 *		copy_process(), and the child has not been woken yet
 *	tid	where CLONE_CHILD_SETTID stores the child's id: the child sleeps in
 *		schedule_tail(), before it reaches user mode
 *
 * With spin, the child reads its own patch state as soon as it is in user mode,
 * and then spins there without a system call. With vfork, it shares the memory of
 * its parent, which sleeps until the child has exited.
 *
 * Prints {"ready":PID} and waits for a line on standard input (close the gates
 * before). The child prints {"states":[...]} when it spins, the parent
 * {"forked":CHILD} when it is back in user mode. Another line ends the spinning.
 *
 * checkpatch: ignore VOLATILE: the child reads memory that its parent writes
 */

#include <err.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib_common.h"
#include "lib_text.h"

#define GATES		8
#define GATE_SIZE	4096	/* the page size of x86_64 */
#define STATES		4	/* how often the child reads its patch state */
#define USAGE_EXIT	2

enum use { ARGS, PIDFD, PTID, TID, USES };

static const char *const names[USES] = { "args=", "pidfd=", "ptid=", "tid=" };
static long long gates[USES] = { -1, -1, -1, -1 };
static bool spin, vforks;

/* Shared by parent and child. */
static volatile bool *spin_end;

static void print(struct text *json)
{
	json_end_line(json);
	if (write_all(STDOUT_FILENO, json->data, json->len))
		_exit(1);
}

static void print_pid(const char *key, pid_t pid)
{
	struct text json = {};

	json_begin(&json, '{');
	json_add_number(&json, key, pid);
	print(&json);
}

static void print_states(const int *states)
{
	struct text json = {};
	int i;

	json_begin(&json, '{');
	json_key(&json, "states");
	json_begin(&json, '[');
	for (i = 0; i < STATES; i++)
		json_number(&json, states[i]);
	json_end(&json, ']');
	print(&json);
}

static void *map_page(int fd, long long page, int flags)
{
	void *mapped;

	mapped = mmap(NULL, GATE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | flags, fd,
		      page * GATE_SIZE);
	if (mapped == MAP_FAILED)
		err(1, "mmap");
	return mapped;
}

static bool parse(char **argv)
{
	int use, other;

	while (*++argv) {
		for (use = 0; use < USES; use++)
			if (!strncmp(*argv, names[use], strlen(names[use])))
				break;
		if (use == USES && !strcmp(*argv, "spin"))
			spin = true;
		else if (use == USES && !strcmp(*argv, "vfork"))
			vforks = true;
		else if (use == USES ||
			 !parse_number(*argv + strlen(names[use]), GATES - 1, &gates[use]))
			return false;
	}
	for (use = 0; use < USES; use++)
		for (other = 0; other < use; other++)
			if (gates[use] >= 0 && gates[use] == gates[other])
				return false;
	return !spin || !vforks;
}

/*
 * Not syscall(): a child on its parent's stack overwrites the frames of the
 * functions that it has returned from.
 */
static inline long clone3(struct clone_args *arguments)
{
	long ret;

	__asm__ volatile("syscall"
			 : "=a"(ret)
			 : "0"((long)SYS_clone3), "D"(arguments), "S"(sizeof(*arguments))
			 : "rcx", "r11", "memory");
	return ret;
}

/* Waits for a line; returns false at the end of the input. */
static bool wait_for_line(void)
{
	int c;

	do
		c = getchar();
	while (c != '\n' && c != EOF);
	return c == '\n';
}

/* Returns the exit code. */
static int child(void)
{
	int states[STATES];
	char text[16];
	int i;

	if (!spin)
		return 0;
	for (i = 0; i < STATES; i++) {
		if (read_short(AT_FDCWD, "/proc/self/patch_state", text, sizeof(text)))
			return 1;
		states[i] = atoi(text);
	}
	print_states(states);
	while (!*spin_end)
		;
	return 0;
}

int main(int argc, char **argv)
{
	struct clone_args plain = { .exit_signal = SIGCHLD }, *filled = &plain, *arguments = &plain;
	int device, status;
	pid_t pid;

	if (argc < 1 || !parse(argv))
		errx(USAGE_EXIT,
		     "usage: klp-fork [args=N] [pidfd=N] [ptid=N] [tid=N] [spin|vfork], N up to %d",
		     GATES - 1);
	device = open("/dev/klp_gate", O_RDWR | O_CLOEXEC);
	if (device < 0)
		err(1, "/dev/klp_gate");
	spin_end = map_page(-1, 0, MAP_ANONYMOUS);

	/* A page is filled through another mapping, so the kernel's access still faults. */
	if (gates[ARGS] >= 0) {
		filled = map_page(device, gates[ARGS], 0);
		*filled = plain;
		arguments = map_page(device, gates[ARGS], 0);
	}
	if (gates[PIDFD] >= 0) {
		filled->flags |= CLONE_PIDFD;
		filled->pidfd = (uintptr_t)map_page(device, gates[PIDFD], 0);
	}
	if (gates[PTID] >= 0) {
		filled->flags |= CLONE_PARENT_SETTID;
		filled->parent_tid = (uintptr_t)map_page(device, gates[PTID], 0);
	}
	if (gates[TID] >= 0) {
		filled->flags |= CLONE_CHILD_SETTID;
		filled->child_tid = (uintptr_t)map_page(device, gates[TID], 0);
	}

	print_pid("ready", getpid());
	if (!wait_for_line())
		errx(1, "standard input ended before the fork");
	if (vforks)
		filled->flags |= CLONE_VM | CLONE_VFORK;
	pid = clone3(arguments);
	if (pid < 0)
		errx(1, "clone3: %s", strerror(-pid));
	if (!pid)
		_exit(child());
	print_pid("forked", pid);
	if (spin)
		wait_for_line();
	*spin_end = true;
	if (waitpid(pid, &status, 0) != pid || status)
		errx(1, "the child failed");
	return 0;
}
