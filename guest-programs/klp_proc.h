/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Walks over the threads of the system and reads what /proc tells about them.
 *
 * This is done while a kernel is emulated and others want the same host, so
 * system calls are counted: one for a process that has one thread, three for
 * each file read.
 */

#ifndef KLP_PROC_H
#define KLP_PROC_H

#include <dirent.h>
#include <sys/stat.h>

#include "klp_common.h"
#include "klp_text.h"

#define PROC_PATH		64

#define PF_KTHREAD		0x00200000	/* include/linux/sched.h */

#define STAT_STATE		3		/* proc_pid_stat(5) */
#define STAT_PPID		4
#define STAT_FLAGS		9
#define STAT_CPU		39

/* What getdents64() writes; a page is not touched before it is needed. */
union entries {
	struct dirent64 first;
	char data[32768];
};

struct proc {
	int fd;
	nlink_t single;		/* the links of PID/task when it has one thread */
	bool has_patch_state;
};

struct proc_task {
	pid_t tid;
	pid_t pid;
	pid_t ppid;
	char state;
	bool kthread;
	int cpu;
	char comm[80];		/* a worker's is longer than the task's own 15 characters */
};

/* Both go on while they get 0, and return what else they got. */
typedef int (*proc_visit_process)(void *context, pid_t pid);
typedef int (*proc_visit_thread)(void *context, pid_t pid, pid_t tid);

/*
 * The caller has one thread. How many links a task directory then has is taken
 * from its own, see proc_task_getattr() in fs/proc/base.c. Returns a negative errno.
 */
static inline int proc_open(struct proc *proc)
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

/* Whether a negative errno says that a thread has gone while it was looked at. */
static inline bool proc_is_gone(int error)
{
	return error == -ENOENT || error == -ESRCH;
}

/* "PID/NAME" for a short name, written into @path. */
static inline const char *proc_path(char path[static PROC_PATH], pid_t pid, const char *name)
{
	char *middle = path + PROC_PATH / 2;

	*middle = '/';
	memcpy(middle + 1, name, strlen(name) + 1);
	return number_before(middle, pid);
}

static inline pid_t proc_pid_of(const char *name)
{
	long long pid;

	return parse_number(name, INT_MAX, &pid) ? pid : 0;
}

/* Returns a negative errno when the directory cannot be read. */
static inline int proc_each_process(const struct proc *proc, proc_visit_process visit,
				    void *context)
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
				ret = visit(context, pid);
		}
	}
	return ret;
}

/* A process that has gone has no threads. Returns a negative errno on other failures. */
static inline int proc_each_thread(const struct proc *proc, pid_t pid, proc_visit_thread visit,
				   void *context)
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
		return visit(context, pid, pid);

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
				ret = visit(context, pid, tid);
		}
	}
	close(fd);
	return ret;
}

/* The number in a patch_state file: "-1", "0" or "1". */
static inline int proc_parse_state(const char *text)
{
	return *text == '-' ? -atoi(text + 1) : atoi(text);
}

/* Returns a negative errno. */
static inline int proc_patch_state(const struct proc *proc, pid_t tid, int *state)
{
	char path[PROC_PATH], text[16];
	int error;

	error = read_short(proc->fd, proc_path(path, tid, "patch_state"), text, sizeof(text));
	if (!error)
		*state = proc_parse_state(text);
	return error;
}

/* Returns a negative errno; EPROTO when the kernel's file is not what we know. */
static inline int proc_task_read(const struct proc *proc, pid_t pid, pid_t tid,
				 struct proc_task *task)
{
	char path[PROC_PATH], text[1024], *name, *at;
	size_t len;
	int error;
	int field;

	error = read_short(proc->fd, proc_path(path, tid, "stat"), text, sizeof(text));
	if (error)
		return error;

	/* A name may hold blanks and brackets: the last one ends it. */
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

#endif /* KLP_PROC_H */
