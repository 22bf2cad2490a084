// SPDX-License-Identifier: GPL-2.0-only
/*
 * Holds open files, and uses them when it is told to.
 *
 *	klp-hold [FILE]...
 *
 * Opens each FILE and one of each kind of file that has no name, maps what can
 * be mapped, and prints {"held":N}. At a line on its standard input it polls,
 * reads, maps and closes all of them and prints {"used":N}. Results of calls
 * do not matter: a kernel whose function is gone does not return from them.
 */

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "lib_common.h"
#include "lib_text.h"

#define PAGE	4096
#define ROOM	65536	/* for a read */

struct held {
	int fd;
	void *page;	/* of a mapping of it, or NULL */
};

static struct held *all;
static unsigned int count;
static char room[ROOM];
static int sink;	/* of a pipe */

static void add(int fd)
{
	void *page;

	if (fd < 0)
		return;
	all = realloc(all, (count + 1) * sizeof(*all));
	if (!all)
		err(1, "realloc");
	page = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0);
	all[count++] = (struct held){ .fd = fd, .page = page == MAP_FAILED ? NULL : page };
}

static void open_named(const char *name)
{
	int fd = open(name, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);

	if (fd < 0)
		fd = open(name, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	add(fd);
}

static void open_nameless(void)
{
	sigset_t none;
	int ends[2];

	sigemptyset(&none);
	add(eventfd(1, EFD_NONBLOCK | EFD_CLOEXEC));
	add(timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC));
	add(epoll_create1(EPOLL_CLOEXEC));
	add(inotify_init1(IN_NONBLOCK | IN_CLOEXEC));
	add(signalfd(-1, &none, SFD_NONBLOCK | SFD_CLOEXEC));
	add(memfd_create("klp-hold", MFD_CLOEXEC));
	add(socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
	if (!pipe2(ends, O_NONBLOCK | O_CLOEXEC)) {
		add(ends[0]);
		add(ends[1]);
	}
	if (!socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends)) {
		add(ends[0]);
		add(ends[1]);
	}
}

/* The first access to a mapping asks the file for the page; here it is the kernel's. */
static void touch(const void *page)
{
	if (write(sink, page, 1) < 0)
		errno = 0;
}

static void use(const struct held *held)
{
	struct pollfd ready = { .fd = held->fd, .events = POLLIN | POLLOUT };
	struct stat status;

	fstat(held->fd, &status);
	poll(&ready, 1, 0);
	/* Not all files know O_NONBLOCK: one that would block is not read. */
	if (ready.revents & POLLIN && read(held->fd, room, ROOM) < 0)
		lseek(held->fd, 0, SEEK_SET);
	ioctl(held->fd, TIOCGWINSZ, room);
	if (held->page) {
		touch(held->page);
		munmap(held->page, PAGE);
	}
	close(held->fd);
}

static void print(const char *key, long long value)
{
	struct text json = {};

	json_begin(&json, '{');
	json_add_number(&json, key, value);
	json_end_line(&json);
	if (write_all(STDOUT_FILENO, json.data, json.len))
		exit(1);
	text_free(&json);
}

int main(int argc, char **argv)
{
	unsigned int n;
	int pipe_ends[2];
	char line;

	if (pipe2(pipe_ends, O_NONBLOCK | O_CLOEXEC))
		err(1, "pipe2");
	sink = pipe_ends[1];
	for (n = 1; n < (unsigned int)argc; n++)
		open_named(argv[n]);
	open_nameless();
	print("held", count);
	if (read(STDIN_FILENO, &line, 1) < 0)
		err(1, "standard input");
	for (n = 0; n < count; n++)
		use(&all[n]);
	print("used", count);
	return 0;
}
