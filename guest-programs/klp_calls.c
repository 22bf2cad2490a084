// SPDX-License-Identifier: GPL-2.0-only
/*
 * Makes many different system calls without a pause, and reads files.
 *
 *	klp-calls [FILE]...
 *
 * Each round makes about a hundred system calls and reads each FILE from its
 * beginning. The calls are a load: their results are ignored. Prints
 * {"calling":PID} first and {"rounds":N} at its end, which is at SIGTERM or at
 * the end of its input.
 */

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/timerfd.h>
#include <sys/times.h>
#include <sys/uio.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "lib_common.h"
#include "lib_stop.h"
#include "lib_text.h"

#define PAGE		4096
#define ROUNDS		16	/* between two checks whether to end */
#define CHEAP_TIMES	16	/* how often a round makes the cheap calls */
#define ROOM		65536	/* for a read */
#define SHORT_NS	1000

static char room[ROOM];
static char folder[64];
static char path[96];
static char other_path[96];

/* By number where libc or the vDSO would answer without a system call. */
static void call_cheap(void)
{
	static const long plain[] = {
		SYS_getpid, SYS_getppid, SYS_gettid, SYS_getuid, SYS_geteuid, SYS_getgid,
		SYS_getegid, SYS_getpgrp, SYS_sched_yield, SYS_sync_file_range, SYS_umask,
	};
	struct timespec now, least;
	struct utsname name;
	struct sysinfo info;
	struct rusage usage;
	struct rlimit limit;
	struct tms ticks;
	cpu_set_t cpus;
	unsigned int n;
	mode_t mask;

	mask = umask(0);
	for (n = 0; n < ARRAY_SIZE(plain); n++)
		syscall(plain[n], -1, 0, 0, 0);
	umask(mask);

	syscall(SYS_getcpu, &n, NULL, NULL);
	syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &now);
	syscall(SYS_clock_gettime, CLOCK_REALTIME, &now);
	syscall(SYS_clock_gettime, CLOCK_PROCESS_CPUTIME_ID, &now);
	syscall(SYS_clock_getres, CLOCK_REALTIME, &least);
	syscall(SYS_gettimeofday, &now, NULL);
	syscall(SYS_time, NULL);
	uname(&name);
	sysinfo(&info);
	getrusage(RUSAGE_SELF, &usage);
	getrlimit(RLIMIT_NOFILE, &limit);
	times(&ticks);
	sched_getaffinity(0, sizeof(cpus), &cpus);
	sched_getscheduler(0);
	getpriority(PRIO_PROCESS, 0);
	getpgid(0);
	getsid(0);
	getgroups(0, NULL);
	syscall(SYS_getrandom, room, 32, GRND_NONBLOCK);
	syscall(SYS_personality, 0xffffffff);
	syscall(SYS_prctl, PR_GET_NAME, room, 0, 0, 0);
	syscall(SYS_set_tid_address, &n);
}

static void use_memory(void)
{
	char *page;

	page = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (page == MAP_FAILED)
		return;
	memset(page, 1, 2 * PAGE);
	mprotect(page, PAGE, PROT_READ);
	madvise(page + PAGE, PAGE, MADV_DONTNEED);
	page = mremap(page, 4 * PAGE, 6 * PAGE, MREMAP_MAYMOVE);
	if (page != MAP_FAILED)
		munmap(page, 6 * PAGE);
	syscall(SYS_brk, 0);
	syscall(SYS_futex, room, 1, 1, NULL, NULL, 0);
}

static void use_signals(void)
{
	struct sigaction action;
	sigset_t set, before;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	sigprocmask(SIG_BLOCK, &set, &before);
	kill(getpid(), SIGUSR2);
	sigpending(&before);
	sigtimedwait(&set, NULL, &(struct timespec){});
	sigprocmask(SIG_UNBLOCK, &set, NULL);
	sigaction(SIGUSR2, NULL, &action);
	kill(getpid(), 0);
}

static void wait_shortly(void)
{
	struct timespec little = { .tv_nsec = SHORT_NS };
	struct pollfd none = { .fd = -1 };
	struct epoll_event event = { .events = EPOLLIN };
	int events, timer, poller;

	nanosleep(&little, NULL);
	poll(&none, 1, 0);
	select(0, NULL, NULL, NULL, &(struct timeval){});
	events = eventfd(1, EFD_NONBLOCK | EFD_CLOEXEC);
	timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	poller = epoll_create1(EPOLL_CLOEXEC);
	epoll_ctl(poller, EPOLL_CTL_ADD, events, &event);
	epoll_wait(poller, &event, 1, 0);
	timerfd_settime(timer, 0, &(struct itimerspec){ .it_value = little }, NULL);
	close(poller);
	close(timer);
	close(events);
}

static void use_pipes_and_sockets(void)
{
	char letter = 'x';
	int ends[2];

	if (!pipe2(ends, O_NONBLOCK | O_CLOEXEC)) {
		if (write(ends[1], &letter, 1) == 1 && read(ends[0], &letter, 1) != 1)
			errx(1, "a pipe lost what was written");
		close(ends[0]);
		close(ends[1]);
	}
	if (!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends)) {
		send(ends[0], &letter, 1, MSG_NOSIGNAL);
		recv(ends[1], &letter, 1, MSG_DONTWAIT);
		shutdown(ends[0], SHUT_WR);
		close(ends[0]);
		close(ends[1]);
	}
	ends[0] = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (ends[0] >= 0) {
		setsockopt(ends[0], SOL_SOCKET, SO_REUSEADDR, &(int){ 1 }, sizeof(int));
		close(ends[0]);
	}
}

static void use_files(void)
{
	struct iovec part = { .iov_base = room, .iov_len = 64 };
	struct statfs system;
	struct stat status;
	int file, copy;

	file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (file < 0)
		err(1, "%s", path);
	if (writev(file, &part, 1) != 64)
		err(1, "%s", path);
	lseek(file, 0, SEEK_SET);
	readv(file, &part, 1);
	if (pwrite(file, room, 8, 100) != 8)
		err(1, "%s", path);
	pread(file, room, 8, 0);
	copy = dup(file);
	fcntl(copy, F_GETFL);
	ioctl(copy, TIOCGWINSZ, room);
	flock(file, LOCK_EX | LOCK_NB);
	fstat(file, &status);
	fstatfs(file, &system);
	fchmod(file, 0644);
	fsync(file);
	if (ftruncate(file, 16))
		err(1, "%s", path);
	close(copy);
	close(file);
	access(path, R_OK);
	stat(path, &status);
	utimensat(AT_FDCWD, path, NULL, 0);
	symlink(path, other_path);
	readlink(other_path, room, PAGE);
	unlink(other_path);
	rename(path, other_path);
	unlink(other_path);
	file = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	inotify_add_watch(file, folder, IN_CREATE);
	close(file);
	file = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	syscall(SYS_getdents64, file, room, PAGE);
	close(file);
	mkdir(path, 0700);
	rmdir(path);
	getcwd(room, PAGE);
}

static void read_file(const char *name)
{
	int file = open(name, O_RDONLY | O_NONBLOCK | O_CLOEXEC);

	if (file < 0)
		return;
	while (read(file, room, ROOM) > 0)
		;
	close(file);
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
	long long rounds = 0;
	int n, times, file;

	snprintf(folder, sizeof(folder), "/tmp/klp-calls-%d", getpid());
	snprintf(path, sizeof(path), "%s/file", folder);
	snprintf(other_path, sizeof(other_path), "%s/other", folder);
	if (mkdir(folder, 0700))
		err(1, "%s", folder);

	stop_prepare();
	print("calling", getpid());
	do {
		for (n = 0; n < ROUNDS; n++, rounds++) {
			for (times = 0; times < CHEAP_TIMES; times++)
				call_cheap();
			use_memory();
			use_signals();
			wait_shortly();
			use_pipes_and_sockets();
			use_files();
			for (file = 1; file < argc; file++)
				read_file(argv[file]);
		}
	} while (!stop_wait(0));

	print("rounds", rounds);
	rmdir(folder);
	return 0;
}
