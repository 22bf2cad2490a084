// SPDX-License-Identifier: GPL-2.0-only

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <unistd.h>

#include "lib_common.h"

long long clock_us(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return now.tv_sec * 1000000LL + now.tv_nsec / 1000;
}

long long now_us(void)
{
	return clock_us(CLOCK_MONOTONIC);
}

struct timespec timespec_of_us(long long us)
{
	return (struct timespec){ .tv_sec = us / 1000000, .tv_nsec = us % 1000000 * 1000 };
}

bool parse_number(const char *text, long long most, long long *value)
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

int write_all(int fd, const char *data, size_t len)
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

int read_short(int dirfd, const char *path, char *data, size_t room)
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
