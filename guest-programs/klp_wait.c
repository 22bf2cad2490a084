// SPDX-License-Identifier: GPL-2.0-only
/*
 * Makes one system call that sleeps for ever, and says how it ended.
 *
 *	klp-wait CALL [timeout]
 *
 * CALL is one of epoll_wait, rt_sigtimedwait, semtimedop, io_getevents and futex;
 * "futex timeout" waits for an hour. It prints {"waiting":TID} before, and
 * {"returned":V,"errno":E,"handled":N} after; N counts the signals that a handler
 * has seen. Each signal that can be handled has a handler, with SA_RESTART.
 *
 * checkpatch: ignore VOLATILE: what C has for a variable that a signal handler changes
 */

#include <err.h>
#include <errno.h>
#include <linux/aio_abi.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ipc.h>
#include <sys/sem.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "lib_common.h"
#include "lib_text.h"

#define USAGE_EXIT	2
#define KERNEL_SIGSET	8	/* bytes of a set of signals in the kernel */
#define HOUR_S		3600

static volatile sig_atomic_t handled;

static void handle(int signo)
{
	(void)signo;
	handled++;
}

static void handle_signals(void)
{
	struct sigaction action = { .sa_handler = handle, .sa_flags = SA_RESTART };
	int signo;

	/* SIGKILL, SIGSTOP and what the C library uses itself are refused. */
	for (signo = 1; signo < NSIG; signo++)
		sigaction(signo, &action, NULL);
}

static void print(struct text *json)
{
	json_end_line(json);
	if (write_all(STDOUT_FILENO, json->data, json->len))
		exit(1);
	json->len = 0;
}

static void say_waiting(void)
{
	struct text json = {};

	json_begin(&json, '{');
	json_add_number(&json, "waiting", gettid());
	print(&json);
	text_free(&json);
}

static long wait_epoll(void)
{
	struct epoll_event event;
	int poller = epoll_create1(EPOLL_CLOEXEC);

	if (poller < 0)
		err(1, "epoll_create1");
	say_waiting();
	return syscall(SYS_epoll_wait, poller, &event, 1, -1);
}

static long wait_signal(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigprocmask(SIG_BLOCK, &set, NULL);
	say_waiting();
	return syscall(SYS_rt_sigtimedwait, &set, NULL, NULL, KERNEL_SIGSET);
}

static long wait_semaphore(void)
{
	struct sembuf down = { .sem_op = -1 };
	int set = semget(IPC_PRIVATE, 1, 0600);

	if (set < 0)
		err(1, "semget");
	say_waiting();
	return syscall(SYS_semtimedop, set, &down, 1, NULL);
}

static long wait_aio(void)
{
	aio_context_t context = 0;
	struct io_event event;

	if (syscall(SYS_io_setup, 1, &context))
		err(1, "io_setup");
	say_waiting();
	return syscall(SYS_io_getevents, context, 1, 1, &event, NULL);
}

static long wait_futex(void)
{
	unsigned int word = 0;

	say_waiting();
	return syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
}

static long wait_futex_timeout(void)
{
	struct timespec hour = { .tv_sec = HOUR_S };
	unsigned int word = 0;

	say_waiting();
	return syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, &hour, NULL, 0);
}

static const struct {
	const char *name;
	long (*wait)(void);
} calls[] = {
	{ "epoll_wait", wait_epoll },
	{ "rt_sigtimedwait", wait_signal },
	{ "semtimedop", wait_semaphore },
	{ "io_getevents", wait_aio },
	{ "futex", wait_futex },
};

int main(int argc, char **argv)
{
	struct text json = {};
	long (*wait)(void) = NULL;
	long returned;
	int error;
	size_t n;

	for (n = 0; argc >= 2 && n < ARRAY_SIZE(calls); n++)
		if (!strcmp(argv[1], calls[n].name))
			wait = calls[n].wait;
	if (argc == 3 && wait == wait_futex && !strcmp(argv[2], "timeout"))
		wait = wait_futex_timeout;
	else if (argc != 2)
		wait = NULL;
	if (!wait)
		errx(USAGE_EXIT, "usage: klp-wait CALL, or futex timeout");

	handle_signals();
	errno = 0;
	returned = wait();
	error = errno;
	json_begin(&json, '{');
	json_add_number(&json, "returned", returned);
	json_add_number(&json, "errno", returned < 0 ? error : 0);
	json_add_number(&json, "handled", handled);
	print(&json);
	text_free(&json);
	return 0;
}
