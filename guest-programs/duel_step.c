// SPDX-License-Identifier: GPL-2.0-only
#include "duel_step.h"

#include <dirent.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "duel.h"
#include "lib_common.h"

#define UNLOAD_TIMES	200
#define UNLOAD_PAUSE_US	10000
#define AWAIT_US	3000000LL
#define AWAIT_PAUSE_US	5000
#define LINE_ROOM	256
#define STATE_ROOM	16
#define PAUSES		100
#define SPINS		2
#define RETRY		"/sys/module/" DUEL_RETRY "/parameters/now"

struct duel_module *step_modules;
int step_modules_most;

/*
 * A CPU that sleeps looks as if its task were blocked. That it is when it has tried for so
 * long: nobody but the other one of the two ends its wait.
 */
static void try_later(int tries, long us)
{
	long long until = now_us() + us;
	int n;

	if (tries > SPINS) {
		duel_nap(us);
		return;
	}
	do {
		for (n = 0; n < PAUSES; n++)
			__builtin_ia32_pause();
	} while (now_us() < until);
}

int step_write(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	int ret;

	if (fd < 0)
		return errno;
	ret = write(fd, text, strlen(text)) < 0 ? errno : 0;
	close(fd);
	return ret;
}

int step_read(const char *path, char *text, size_t room)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t len;
	int ret;

	*text = '\0';
	if (fd < 0)
		return errno;
	len = read(fd, text, room - 1);
	ret = errno;
	close(fd);
	if (len < 0)
		return ret;
	text[len] = '\0';
	text[strcspn(text, "\n")] = '\0';
	return 0;
}

int step_each(const char *folder, int (*call)(const char *name, void *context), void *context)
{
	struct dirent **names;
	int count = scandir(folder, &names, NULL, alphasort);
	int ret = 0, n;

	for (n = 0; n < count; n++) {
		if (!ret && names[n]->d_name[0] != '.')
			ret = call(names[n]->d_name, context);
		free(names[n]);
	}
	if (count >= 0)
		free(names);
	return ret;
}

void step_retry_now(unsigned long most)
{
	if (duel_words->retries >= most)
		return;
	duel_words->retries++;
	step_write(RETRY, "1");
}

void step_retry(int look, unsigned long most)
{
	bool is_power_of_two = !(look & (look - 1));

	if (is_power_of_two)
		step_retry_now(most);
}

/* What could not end while a CPU was held may end at once then: it is looked at anew. */
static void retry_step(int *looks)
{
	static unsigned long was_held;
	unsigned long held = duel_words->held;

	if (was_held != held)
		*looks = 0;
	was_held = held;
	step_retry(++*looks, held ? HELD_RETRIES : MOST_RETRIES);
}

void step_expedite(bool on)
{
	step_write("/sys/kernel/rcu_expedited", on ? "1" : "0");
}

static unsigned long section(const char *module, const char *name)
{
	char path[LINE_ROOM], text[LINE_ROOM];

	snprintf(path, sizeof(path), "/sys/module/%s/sections/%s", module, name);
	return step_read(path, text, sizeof(text)) ? 0 : strtoul(text, NULL, 16);
}

/* It may be gone again, and is nowhere then. */
static void note_module(const char *path)
{
	const char *name = strrchr(path, '/');
	struct duel_module *module = step_modules, *end = module + step_modules_most;

	while (module < end && module->name[0])
		module++;
	if (!name || module == end)
		return;
	snprintf(module->name, sizeof(module->name), "%.*s", (int)strcspn(name + 1, "."), name + 1);
	module->data = section(module->name, ".data");
	module->text = section(module->name, ".text");
}

/* By init_module(): since 6.5, two finit_module() of one file at a time are one load. */
static int load(const char *path, const char *parameters)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat status;
	void *image;
	int ret;

	if (fd < 0)
		return errno;
	if (fstat(fd, &status))
		err(1, "%s", path);
	image = mmap(NULL, status.st_size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0);
	if (image == MAP_FAILED)
		err(1, "%s", path);
	close(fd);
	ret = syscall(SYS_init_module, image, status.st_size, parameters) ? errno : 0;
	munmap(image, status.st_size);
	if (!ret)
		note_module(path);
	return ret;
}

static int unload(const char *name, int times)
{
	int ret = 0, looks = 0, n;

	for (n = 1; n <= times; n++) {
		ret = syscall(SYS_delete_module, name, O_NONBLOCK) ? errno : 0;
		if (!ret || n == times)
			break;
		retry_step(&looks);
		try_later(n, UNLOAD_PAUSE_US);
	}
	return ret;
}

static int enter_gate(const char *number)
{
	int fd = open("/dev/klp_gate", O_RDONLY | O_CLOEXEC);
	char text[STATE_ROOM];
	int ret;

	if (fd < 0)
		return errno;
	ret = pread(fd, text, sizeof(text), atol(number) * DUEL_PAGE) < 0 ? errno : 0;
	close(fd);
	return ret;
}

/* Not an error when it does not come: that shows in what follows. */
static int await_text(const char *path, const char *wanted)
{
	long long until = now_us() + AWAIT_US;
	char text[LINE_ROOM];
	int looks = 0, n;

	for (n = 1; now_us() < until; n++) {
		if (step_read(path, text, sizeof(text)) || !strcmp(text, wanted))
			break;
		retry_step(&looks);
		try_later(n, AWAIT_PAUSE_US);
	}
	return 0;
}

static void be_child(void)
{
	char text[STATE_ROOM];
	int n;

	duel_words->child_cpu = sched_getcpu();
	for (n = 0; n < DUEL_STATES; n++) {
		step_read("/proc/self/patch_state", text, sizeof(text));
		duel_words->child[n] = atoi(text);
	}
	while (!duel_words->stop)
		__builtin_ia32_pause();
	_exit(0);
}

static int fork_one(void)
{
	long pid = syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);

	if (pid < 0)
		return errno;
	if (!pid)
		be_child();
	return 0;
}

static int vfork_one(void)
{
	pid_t pid = vfork();

	if (pid < 0)
		return errno;
	if (!pid)
		_exit(0);
	return 0;
}

static int exit_one(void)
{
	pid_t pid;

	/* So that it is reaped by itself, as a thread is. */
	signal(SIGCHLD, SIG_IGN);
	pid = fork();
	if (pid < 0)
		return errno;
	if (!pid)
		_exit(0);
	while (!kill(pid, 0))
		__builtin_ia32_pause();
	return 0;
}

int step_do(const char *line)
{
	char copy[LINE_ROOM], *save = NULL, *verb, *first, *rest;

	snprintf(copy, sizeof(copy), "%s", line);
	verb = strtok_r(copy, " ", &save);
	first = strtok_r(NULL, " ", &save);
	rest = strtok_r(NULL, "", &save);
	if (!verb)
		return 0;
	if (!strcmp(verb, "insmod") && first)
		return load(first, rest ?: "");
	if (!strcmp(verb, "rmmod") && first)
		return unload(first, 1);
	if (!strcmp(verb, "unload") && first)
		return unload(first, UNLOAD_TIMES);
	if (!strcmp(verb, "write") && rest)
		return step_write(first, rest);
	if (!strcmp(verb, "read") && first)
		return step_read(first, copy, sizeof(copy));
	if (!strcmp(verb, "enter") && first)
		return enter_gate(first);
	if (!strcmp(verb, "await") && rest)
		return await_text(first, rest);
	if (!strcmp(verb, "fork"))
		return fork_one();
	if (!strcmp(verb, "vfork"))
		return vfork_one();
	if (!strcmp(verb, "exit"))
		return exit_one();
	if (!strcmp(verb, "none"))
		return 0;
	errx(1, "%s: unknown, or without its argument", line);
}
