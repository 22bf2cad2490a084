/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Small things that every program needs: time, numbers, whole reads and writes.
 */

#ifndef KLP_COMMON_H
#define KLP_COMMON_H

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdbool.h>
#include <time.h>
#include <unistd.h>

#define ARRAY_SIZE(array)	(sizeof(array) / sizeof((array)[0]))

static inline long long clock_us(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return now.tv_sec * 1000000LL + now.tv_nsec / 1000;
}

static inline long long now_us(void)
{
	return clock_us(CLOCK_MONOTONIC);
}

static inline struct timespec timespec_of_us(long long us)
{
	return (struct timespec){ .tv_sec = us / 1000000, .tv_nsec = us % 1000000 * 1000 };
}

/*
 * Sleep until the next look of a wait that began at @start: @least_us, or a
 * quarter of what it has taken when that is longer, up to eight times as long.
 * Not beyond @until.
 */
static inline void pause_between_looks(long long start, long long until, long long least_us)
{
	long long now = now_us(), us = (now - start) / 4;
	struct timespec pause;

	if (us > 8 * least_us)
		us = 8 * least_us;
	if (us < least_us)
		us = least_us;
	if (us > until - now)
		us = until - now;
	if (us <= 0)
		return;
	pause = timespec_of_us(us);
	nanosleep(&pause, NULL);
}

/* Whether @text is a decimal number from 0 to @most, and which. */
static inline bool parse_number(const char *text, long long most, long long *value)
{
	long long number = 0;

	if (!*text)
		return false;
	for (; *text; text++) {
		if (*text < '0' || *text > '9')
			return false;
		if (number > (LLONG_MAX - 9) / 10)
			return false;
		number = number * 10 + *text - '0';
	}
	*value = number;
	return number <= most;
}

/* Write all of it, also to a non-blocking pipe; returns a negative errno. */
static inline int write_all(int fd, const char *data, size_t len)
{
	struct pollfd ready = { .fd = fd, .events = POLLOUT };
	ssize_t done;

	while (len) {
		done = write(fd, data, len);
		if (done >= 0) {
			data += done;
			len -= done;
		} else if (errno == EAGAIN) {
			poll(&ready, 1, -1);
		} else if (errno != EINTR) {
			return -errno;
		}
	}
	return 0;
}

/* Read a short file below @dirfd and terminate it; returns a negative errno. */
static inline int read_short(int dirfd, const char *path, char *data, size_t room)
{
	int fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC);
	int ret = 0;
	ssize_t len;

	if (fd < 0)
		return -errno;
	len = read(fd, data, room - 1);
	if (len < 0)
		ret = -errno;
	else
		data[len] = '\0';
	close(fd);
	return ret;
}

#endif /* KLP_COMMON_H */
