/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Iterates over the threads of the system and reads what /proc has about them.
 *
 * These programs run in emulated guests, several on one host, so the number of
 * system calls matters: one for a process that has one thread, three for each
 * file read.
 */

#ifndef LIB_PROC_H
#define LIB_PROC_H

#include <dirent.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <sys/types.h>

#define PROC_PATH		64

/* What getdents64() writes; a page is not touched before it is needed. */
union entries {
	struct dirent64 first;
	char data[32768];
};

struct proc {
	int fd;
	nlink_t single;		/* link count of PID/task when the process has one thread */
	bool has_patch_state;
};

struct proc_task {
	pid_t tid;
	pid_t pid;
	pid_t ppid;
	char state;
	bool kthread;
	int cpu;
	char comm[80];		/* a kworker's is longer than the 15 characters of task->comm */
};

/* Called for each process or thread; a nonzero return value ends the iteration. */
typedef int (*proc_process_fn)(void *context, pid_t pid);
typedef int (*proc_thread_fn)(void *context, pid_t pid, pid_t tid);

/*
 * The caller must have one thread: the link count that a task directory then
 * has is taken from its own, see proc_task_getattr() in fs/proc/base.c.
 * Returns a negative errno.
 */
int proc_open(struct proc *proc);

/* Returns whether a negative errno means that the thread has exited meanwhile. */
bool proc_is_gone(int error);

/* Writes "PID/NAME" into @path, for a short name. */
const char *proc_path(char path[static PROC_PATH], pid_t pid, const char *name);

/* Returns a negative errno when the directory cannot be read, or what @call returned last. */
int proc_each_process(const struct proc *proc, proc_process_fn call, void *context);

/* The same; a process that has exited has no threads. */
int proc_each_thread(const struct proc *proc, pid_t pid, proc_thread_fn call, void *context);

/* Returns the number in a patch_state file: "-1", "0" or "1". */
int proc_parse_state(const char *text);

/* Returns a negative errno. */
int proc_patch_state(const struct proc *proc, pid_t tid, int *state);

/* Returns a negative errno; EPROTO when the file has an unknown format. */
int proc_task_read(const struct proc *proc, pid_t pid, pid_t tid, struct proc_task *task);

#endif /* LIB_PROC_H */
