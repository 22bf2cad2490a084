// SPDX-License-Identifier: GPL-2.0-only

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "agent_watch.h"

#define ROOM_AT_FIRST	16

static struct {
	struct pollfd *fds;
	int count;
	int room;
} watch;

void watch_begin(void)
{
	watch.count = 0;
}

int watch_add(int fd, short events)
{
	struct pollfd *fds = watch.fds;

	if (fd < 0)
		return WATCH_NONE;
	if (watch.count == watch.room) {
		watch.room = watch.room ? 2 * watch.room : ROOM_AT_FIRST;
		fds = realloc(fds, watch.room * sizeof(*fds));
		if (!fds)
			_exit(1);
		watch.fds = fds;
	}
	fds[watch.count] = (struct pollfd){ .fd = fd, .events = events };
	return watch.count++;
}

bool watch_wait(const sigset_t *waiting)
{
	int i;

	if (ppoll(watch.fds, watch.count, NULL, waiting) >= 0)
		return true;
	if (errno != EINTR)
		return false;
	for (i = 0; i < watch.count; i++)
		watch.fds[i].revents = 0;
	return true;
}

short watch_result(int index)
{
	return index == WATCH_NONE ? 0 : watch.fds[index].revents;
}
