// SPDX-License-Identifier: GPL-2.0-only

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib_common.h"
#include "lib_proc.h"
#include "lib_text.h"

#define PF_KTHREAD		0x00200000	/* include/linux/sched.h */

#define STAT_STATE		3		/* proc_pid_stat(5) */
#define STAT_PPID		4
#define STAT_FLAGS		9
#define STAT_CPU		39

int proc_open(struct proc *proc)
{
	struct stat status;

	proc->fd = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (proc->fd < 0)
		return -errno;
	if (fstatat(proc->fd, "self/task", &status, 0) < 0) {
		close(proc->fd);
		return -ENOENT;
	}
	proc->single = status.st_nlink;
	proc->has_patch_state = !faccessat(proc->fd, "self/patch_state", F_OK, 0);
	return 0;
}

bool proc_is_gone(int error)
{
	return error == -ENOENT || error == -ESRCH;
}

const char *proc_path(char path[static PROC_PATH], pid_t pid, const char *name)
{
	char *middle = path + PROC_PATH / 2;

	*middle = '/';
	memcpy(middle + 1, name, strlen(name) + 1);
	return number_before(middle, pid);
}

static pid_t proc_pid_of(const char *name)
{
	long long pid;

	return parse_number(name, INT_MAX, &pid) ? pid : 0;
}

int proc_each_process(const struct proc *proc, proc_process_fn call, void *context)
{
	static union entries entries;
	struct dirent64 *entry;
	ssize_t len, at;
	int ret = 0;
	pid_t pid;

	if (lseek(proc->fd, 0, SEEK_SET) < 0)
		return -errno;
	while (!ret && (len = getdents64(proc->fd, entries.data, sizeof(entries))) != 0) {
		if (len < 0)
			return -errno;
		for (at = 0; !ret && at < len; at += entry->d_reclen) {
			entry = (struct dirent64 *)(entries.data + at);
			pid = proc_pid_of(entry->d_name);
			if (pid)
				ret = call(context, pid);
		}
	}
	return ret;
}

int proc_each_thread(const struct proc *proc, pid_t pid, proc_thread_fn call, void *context)
{
	static union entries entries;
	struct dirent64 *entry;
	struct stat status;
	ssize_t len, at;
	char buffer[PROC_PATH];
	const char *path = proc_path(buffer, pid, "task");
	int ret = 0;
	pid_t tid;
	int fd;

	if (fstatat(proc->fd, path, &status, 0) < 0)
		return proc_is_gone(-errno) ? 0 : -errno;
	if (status.st_nlink == proc->single)
		return call(context, pid, pid);

	fd = openat(proc->fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return proc_is_gone(-errno) ? 0 : -errno;
	while (!ret && (len = getdents64(fd, entries.data, sizeof(entries))) != 0) {
		if (len < 0) {
			ret = proc_is_gone(-errno) ? 0 : -errno;
			break;
		}
		for (at = 0; !ret && at < len; at += entry->d_reclen) {
			entry = (struct dirent64 *)(entries.data + at);
			tid = proc_pid_of(entry->d_name);
			if (tid)
				ret = call(context, pid, tid);
		}
	}
	close(fd);
	return ret;
}

int proc_parse_state(const char *text)
{
	return *text == '-' ? -atoi(text + 1) : atoi(text);
}

int proc_patch_state(const struct proc *proc, pid_t tid, int *state)
{
	char path[PROC_PATH], text[16];
	int error;

	error = read_short(proc->fd, proc_path(path, tid, "patch_state"), text, sizeof(text));
	if (!error)
		*state = proc_parse_state(text);
	return error;
}

int proc_task_read(const struct proc *proc, pid_t pid, pid_t tid, struct proc_task *task)
{
	char path[PROC_PATH], text[1024], *name, *at;
	size_t len;
	int error;
	int field;

	error = read_short(proc->fd, proc_path(path, tid, "stat"), text, sizeof(text));
	if (error)
		return error;

	/* A name may contain blanks and parentheses: the last one ends it. */
	name = strchr(text, '(');
	at = strrchr(text, ')');
	if (!name || !at)
		return -EPROTO;
	len = at - ++name;
	if (len >= sizeof(task->comm))
		len = sizeof(task->comm) - 1;
	memcpy(task->comm, name, len);
	task->comm[len] = '\0';

	task->tid = tid;
	task->pid = pid;
	for (field = STAT_STATE; field <= STAT_CPU; field++) {
		at = strchr(at, ' ');
		if (!at)
			return -EPROTO;
		at++;
		if (field == STAT_STATE)
			task->state = *at;
		else if (field == STAT_PPID)
			task->ppid = atoi(at);
		else if (field == STAT_FLAGS)
			task->kthread = strtoul(at, NULL, 10) & PF_KTHREAD;
		else if (field == STAT_CPU)
			task->cpu = atoi(at);
	}
	return 0;
}
