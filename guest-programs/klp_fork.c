// SPDX-License-Identifier: GPL-2.0-only
/*
 * Forks once, and sleeps on the way in gates of /dev/klp_gate
 * (livepatch-modules/klp_target_gate.c).
 *
 *	klp-fork [args=N] [pidfd=N] [tid=N] [spin]
 *
 * Each names a gate, in whose page something lies that the kernel touches:
 *
 *	args	the arguments of clone3(): the parent sleeps before anything is copied
 *	pidfd	where CLONE_PIDFD has the pidfd written: the parent sleeps between
 *		dup_task_struct() and klp_copy_process()
 *	tid	where CLONE_CHILD_SETTID has the child's id written: the child sleeps in
 *		schedule_tail(), before it reaches user mode
 *
 * With spin, the child reads its own patch state as soon as it is in user mode,
 * and then spins there without a system call.
 *
 * Says {"ready":PID} and waits for a line on standard input (close the gates
 * before). Says {"states":[...]} by the child when it spins, and {"forked":CHILD}
 * when the parent is back in user mode. A spinning child is let go by another line.
 *
 * checkpatch: ignore VOLATILE: the child looks at memory that its parent writes
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
#define LOOKS		4
#define USAGE_EXIT	2

enum use { ARGS, PIDFD, TID, USES };

static const char *const names[USES] = { "args=", "pidfd=", "tid=" };
static long long gates[USES] = { -1, -1, -1 };
static bool spin;

/* Shared by parent and child. */
static volatile bool *let_go;

static void say(struct text *json)
{
	json_end_line(json);
	if (write_all(STDOUT_FILENO, json->data, json->len))
		_exit(1);
}

static void say_pid(const char *key, pid_t pid)
{
	struct text json = {};

	json_begin(&json, '{');
	json_add_number(&json, key, pid);
	say(&json);
}

static void say_states(const int *states)
{
	struct text json = {};
	int i;

	json_begin(&json, '{');
	json_key(&json, "states");
	json_begin(&json, '[');
	for (i = 0; i < LOOKS; i++)
		json_number(&json, states[i]);
	json_end(&json, ']');
	say(&json);
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
	int use;

	while (*++argv) {
		for (use = 0; use < USES; use++)
			if (!strncmp(*argv, names[use], strlen(names[use])))
				break;
		if (use == USES && !strcmp(*argv, "spin"))
			spin = true;
		else if (use == USES ||
			 !parse_number(*argv + strlen(names[use]), GATES - 1, &gates[use]))
			return false;
	}
	for (use = 0; use < USES; use++)
		if (gates[use] >= 0 && gates[use] == gates[(use + 1) % USES])
			return false;
	return true;
}

/* Wait for a line; false at the end of the input. */
static bool told(void)
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
	int states[LOOKS];
	char text[16];
	int i;

	if (!spin)
		return 0;
	for (i = 0; i < LOOKS; i++) {
		if (read_short(AT_FDCWD, "/proc/self/patch_state", text, sizeof(text)))
			return 1;
		states[i] = atoi(text);
	}
	say_states(states);
	while (!*let_go)
		;
	return 0;
}

int main(int argc, char **argv)
{
	struct clone_args plain = { .exit_signal = SIGCHLD }, *filled = &plain, *arguments = &plain;
	int device, status;
	pid_t pid;

	if (argc < 1 || !parse(argv))
		errx(USAGE_EXIT, "usage: klp-fork [args=N] [pidfd=N] [tid=N] [spin], N up to %d",
		     GATES - 1);
	device = open("/dev/klp_gate", O_RDWR | O_CLOEXEC);
	if (device < 0)
		err(1, "/dev/klp_gate");
	let_go = map_page(-1, 0, MAP_ANONYMOUS);

	/* A page is filled through a mapping of its own: the one for the kernel stays untouched. */
	if (gates[ARGS] >= 0) {
		filled = map_page(device, gates[ARGS], 0);
		*filled = plain;
		arguments = map_page(device, gates[ARGS], 0);
	}
	if (gates[PIDFD] >= 0) {
		filled->flags |= CLONE_PIDFD;
		filled->pidfd = (uintptr_t)map_page(device, gates[PIDFD], 0);
	}
	if (gates[TID] >= 0) {
		filled->flags |= CLONE_CHILD_SETTID;
		filled->child_tid = (uintptr_t)map_page(device, gates[TID], 0);
	}

	say_pid("ready", getpid());
	if (!told())
		errx(1, "nobody said go");
	pid = syscall(SYS_clone3, arguments, sizeof(*arguments));
	if (pid < 0)
		err(1, "clone3");
	if (!pid)
		_exit(child());
	say_pid("forked", pid);
	if (spin)
		told();
	*let_go = true;
	if (waitpid(pid, &status, 0) != pid || status)
		errx(1, "the child failed");
	return 0;
}
