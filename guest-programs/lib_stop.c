// SPDX-License-Identifier: GPL-2.0-only
/*
 * checkpatch: ignore VOLATILE: what a signal handler sets is a volatile sig_atomic_t in C11
 */

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include "lib_common.h"
#include "lib_stop.h"

static volatile sig_atomic_t signalled;

static void on_signal(int signo)
{
	(void)signo;
	signalled = 1;
}

void stop_prepare(void)
{
	struct sigaction action = { .sa_handler = on_signal };

	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
}

bool stop_signalled(void)
{
	return signalled;
}

bool stop_wait(long long until_us)
{
	struct pollfd input = { .fd = STDIN_FILENO, .events = POLLIN };
	struct timespec left;
	long long left_us;
	char skipped[512];
	ssize_t len;

	do {
		left_us = until_us - now_us();
		left = timespec_of_us(left_us > 0 ? left_us : 0);
		if (ppoll(&input, 1, &left, NULL) > 0) {
			len = read(STDIN_FILENO, skipped, sizeof(skipped));
			if (!len || (len < 0 && errno != EAGAIN && errno != EINTR))
				return true;
		}
		if (signalled)
			return true;
	} while (left_us > 0 && now_us() < until_us);
	return false;
}
