// SPDX-License-Identifier: GPL-2.0-only

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include "agent_pause.h"
#include "lib_common.h"

#define MOST_INTERVALS	16

/* Without a log it is -1, which ppoll() ignores. */
static int log_fd(void)
{
	static int fd = -1;
	static bool opened;

	if (!opened)
		fd = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	opened = true;
	return fd;
}

struct pause pause_begin(long long timeout_ms, long long interval_ms)
{
	long long now = now_us();

	/* What is logged from here on, before the first check, ends the first pause. */
	lseek(log_fd(), 0, SEEK_END);
	return (struct pause) {
		.start_us = now,
		.until_us = now + timeout_ms * 1000,
		.since_us = now,
		.interval_us = interval_ms * 1000,
	};
}

bool pause_over(const struct pause *pause)
{
	return now_us() >= pause->until_us;
}

long long pause_waited_ms(const struct pause *pause)
{
	return (now_us() - pause->start_us) / 1000;
}

static long long next_us(const struct pause *pause, long long now)
{
	long long us = now - pause->since_us, left = pause->until_us - now;

	if (us > MOST_INTERVALS * pause->interval_us)
		us = MOST_INTERVALS * pause->interval_us;
	if (us < pause->interval_us)
		us = pause->interval_us;
	return us < left ? us : left;
}

void pause_wait(struct pause *pause)
{
	struct pollfd log = { .fd = pause->logged ? -1 : log_fd(), .events = POLLIN };
	long long us = next_us(pause, now_us());
	struct timespec most = timespec_of_us(us);

	if (us <= 0)
		return;
	pause->logged = ppoll(&log, 1, &most, NULL) > 0;
	if (pause->logged) {
		/* Before the next check, so nothing is missed. */
		lseek(log.fd, 0, SEEK_END);
		pause->since_us = now_us();
	}
}
