// SPDX-License-Identifier: GPL-2.0-only
/*
 * Observes a livepatch transition from inside the guest: samples the patch state
 * of every thread but its own, and the "transition" and "enabled" attributes of
 * every livepatch, and prints what has changed.
 *
 *	klp-sampler INTERVAL_MS [MAX_MS]
 *
 * README.md describes its output.
 */

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "lib_common.h"
#include "lib_proc.h"
#include "lib_stop.h"
#include "lib_text.h"

#define LIVEPATCH	"/sys/kernel/livepatch"
#define BUCKETS		1024
#define MAX_MS		(7 * 24 * 3600 * 1000LL)
#define USAGE_EXIT	2
#define ABSENT		(-1)

/*
 * The file stays open: reading it again costs one system call, and fails with
 * ESRCH once the thread has exited, even when its id has been reused.
 */
struct thread {
	struct thread *next;		/* of all threads */
	struct thread *next_in_bucket;
	pid_t tid;
	pid_t pid;
	int fd;
	int patch_state;
	bool kthread;
};

static const char * const attributes[] = { "transition", "enabled" };

struct patch {
	struct patch *next;
	char name[NAME_MAX + 1];
	int values[ARRAY_SIZE(attributes)];
	unsigned long long seen;	/* the last round that found it */
};

static struct proc proc;
static struct thread *threads;
static struct thread *buckets[BUCKETS];
static struct patch *patches;
static unsigned long long round_number;
static struct text output;

static struct thread **find_thread(pid_t tid)
{
	struct thread **link = &buckets[tid % BUCKETS];

	while (*link && (*link)->tid != tid)
		link = &(*link)->next_in_bucket;
	return link;
}

/* Returns a negative errno: ESRCH when the thread has exited. */
static int read_state(const struct thread *thread, int *state)
{
	char text[16];
	ssize_t len;

	/* There were too many threads for one descriptor each. */
	if (thread->fd < 0)
		return proc_patch_state(&proc, thread->tid, state);
	len = pread(thread->fd, text, sizeof(text) - 1, 0);
	if (len < 0)
		return -errno;
	text[len] = '\0';
	*state = proc_parse_state(text);
	return 0;
}

static void begin_line(void)
{
	json_begin(&output, '{');
	json_add_number(&output, "t_us", now_us());
}

/* Returns a negative errno. The name is read again: exec may have changed it. */
static int write_thread(struct thread *thread)
{
	struct proc_task task;
	int ret;

	begin_line();
	ret = proc_task_read(&proc, thread->pid, thread->tid, &task);
	if (ret)
		return ret;
	thread->kthread = task.kthread;
	json_add_number(&output, "tid", thread->tid);
	json_add_number(&output, "pid", thread->pid);
	json_add_string(&output, "comm", task.comm);
	json_add_bool(&output, "kthread", task.kthread);
	json_add_text(&output, "state", &task.state, 1);
	json_add_number(&output, "patch_state", thread->patch_state);
	json_end_line(&output);
	return 0;
}

static void report_gone(pid_t tid)
{
	begin_line();
	json_add_number(&output, "gone", tid);
	json_end_line(&output);
}

static void fail(int error, const char *what)
{
	write_all(STDOUT_FILENO, output.data, output.len);
	errx(1, "%s: %s", what, strerror(-error));
}

/* Reports the new state of a thread; returns false when it has exited meanwhile. */
static bool report_thread(struct thread *thread)
{
	size_t start = output.len;
	int ret;

	ret = write_thread(thread);
	if (!ret)
		return true;
	output.len = start;
	if (!proc_is_gone(ret))
		fail(ret, "stat");
	return false;
}

static void forget_thread(struct thread *thread)
{
	struct thread **link = find_thread(thread->tid);

	*link = thread->next_in_bucket;
	if (thread->fd >= 0)
		close(thread->fd);
	free(thread);
}

static void sample_known_threads(void)
{
	struct thread **link = &threads, *thread;
	bool gone;
	int state;
	int ret;

	while ((thread = *link)) {
		ret = read_state(thread, &state);
		if (ret && !proc_is_gone(ret))
			fail(ret, "patch_state");
		gone = ret;
		if (!gone && state != thread->patch_state) {
			thread->patch_state = state;
			gone = !report_thread(thread);
		}
		if (!gone) {
			link = &thread->next;
			continue;
		}
		report_gone(thread->tid);
		*link = thread->next;
		forget_thread(thread);
	}
}

static int add_new_thread(void *context, pid_t pid, pid_t tid)
{
	struct thread **link = find_thread(tid), *thread;
	char path[PROC_PATH];
	int ret;

	(void)context;
	if (*link)
		return 0;
	thread = calloc(1, sizeof(*thread));
	if (!thread)
		return -ENOMEM;
	thread->tid = tid;
	thread->pid = pid;
	thread->fd = openat(proc.fd, proc_path(path, tid, "patch_state"), O_RDONLY | O_CLOEXEC);
	ret = thread->fd < 0 && errno != EMFILE ? -errno : read_state(thread, &thread->patch_state);
	if (!ret && report_thread(thread)) {
		*link = thread;
		thread->next = threads;
		threads = thread;
		return 0;
	}
	if (thread->fd >= 0)
		close(thread->fd);
	free(thread);
	return ret && !proc_is_gone(ret) ? ret : 0;
}

static int add_new_threads_of(void *context, pid_t pid)
{
	const struct thread *known = *find_thread(pid);

	if (pid == getpid() || (known && known->kthread))
		return 0;
	return proc_each_thread(&proc, pid, add_new_thread, context);
}

static struct patch *find_patch(const char *name)
{
	struct patch *patch;

	for (patch = patches; patch; patch = patch->next)
		if (!strcmp(patch->name, name))
			return patch;
	patch = calloc(1, sizeof(*patch));
	if (!patch)
		fail(-ENOMEM, "livepatch");
	memcpy(patch->name, name, strlen(name) + 1);
	patch->values[0] = ABSENT;
	patch->values[1] = ABSENT;
	patch->next = patches;
	patches = patch;
	return patch;
}

static void sample_attribute(int dirfd, struct patch *patch, unsigned int which)
{
	char path[NAME_MAX + 32], text[16];
	int value = ABSENT;

	if (patch->seen == round_number) {
		snprintf(path, sizeof(path), "%s/%s", patch->name, attributes[which]);
		if (!read_short(dirfd, path, text, sizeof(text)))
			value = atoi(text);
	}
	if (value == patch->values[which])
		return;
	patch->values[which] = value;
	begin_line();
	json_key(&output, attributes[which]);
	json_begin(&output, '{');
	if (value == ABSENT)
		json_add_null(&output, patch->name);
	else
		json_add_number(&output, patch->name, value);
	json_end(&output, '}');
	json_end_line(&output);
}

static void sample_patches(int dirfd)
{
	static union entries entries;
	struct dirent64 *entry;
	struct patch *patch;
	unsigned int which;
	ssize_t len, at;

	lseek(dirfd, 0, SEEK_SET);
	while ((len = getdents64(dirfd, entries.data, sizeof(entries))) > 0) {
		for (at = 0; at < len; at += entry->d_reclen) {
			entry = (struct dirent64 *)(entries.data + at);
			if (entry->d_type == DT_DIR && entry->d_name[0] != '.')
				find_patch(entry->d_name)->seen = round_number;
		}
	}
	for (patch = patches; patch; patch = patch->next)
		for (which = 0; which < ARRAY_SIZE(attributes); which++)
			sample_attribute(dirfd, patch, which);
}

static void sample(int livepatch_fd)
{
	int ret;

	round_number++;
	if (livepatch_fd >= 0)
		sample_patches(livepatch_fd);
	sample_known_threads();
	ret = proc_each_process(&proc, add_new_threads_of, NULL);
	if (ret < 0)
		fail(ret, "/proc");
}

static void flush(void)
{
	if (write_all(STDOUT_FILENO, output.data, output.len))
		exit(1);
	output.len = 0;
}

static void raise_descriptor_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit))
		return;
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
}

int main(int argc, char **argv)
{
	long long interval_ms, max_ms = MAX_MS, start = now_us(), next_us;
	int livepatch_fd;
	bool ending;
	int ret;

	if (argc < 2 || argc > 3 || !parse_number(argv[1], MAX_MS, &interval_ms) || !interval_ms ||
	    (argc == 3 && !parse_number(argv[2], MAX_MS, &max_ms)))
		errx(USAGE_EXIT, "usage: klp-sampler INTERVAL_MS [MAX_MS]");

	stop_prepare();
	raise_descriptor_limit();
	ret = proc_open(&proc);
	if (ret)
		fail(ret, "/proc");
	if (!proc.has_patch_state)
		errx(1, "this kernel has no /proc/PID/patch_state");
	livepatch_fd = open(LIVEPATCH, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	sample(livepatch_fd);
	begin_line();
	json_key(&output, "ready");
	text_put(&output, "true", 4);
	json_end_line(&output);
	flush();
	next_us = now_us();
	/* One more sample follows the request to end, so what happened before it is reported. */
	do {
		/* A sample that took longer than the interval delays the next ones. */
		next_us += interval_ms * 1000;
		if (next_us < now_us())
			next_us = now_us();
		if (next_us > start + max_ms * 1000)
			next_us = start + max_ms * 1000;
		ending = stop_wait(next_us);
		sample(livepatch_fd);
		flush();
	} while (!ending && now_us() < start + max_ms * 1000);
	return 0;
}
