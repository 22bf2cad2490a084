// SPDX-License-Identifier: GPL-2.0-only

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "agent_output.h"
#include "agent_pause.h"
#include "agent_tasks.h"
#include "lib_common.h"
#include "lib_proc.h"
#include "lib_text.h"

#define EXCEPT_MAX	1024

struct walk {
	struct proc proc;
	struct text *reply;
	int wanted;		/* the patch state that poll-tasks waits for */
	pid_t except[EXCEPT_MAX];
	unsigned int excepted;
	pid_t self;
	pid_t straggler;
};

static int add_task(struct walk *walk, pid_t pid, pid_t tid, bool only_stragglers)
{
	struct proc_task task;
	int patch_state = 0;
	int error;

	if (walk->proc.has_patch_state) {
		error = proc_patch_state(&walk->proc, tid, &patch_state);
		if (error)
			return proc_is_gone(error) ? 0 : error;
	}
	if (only_stragglers && patch_state == walk->wanted)
		return 0;
	error = proc_task_read(&walk->proc, pid, tid, &task);
	if (error)
		return proc_is_gone(error) ? 0 : error;

	json_begin(walk->reply, '{');
	json_add_number(walk->reply, "tid", task.tid);
	json_add_number(walk->reply, "pid", task.pid);
	json_add_number(walk->reply, "ppid", task.ppid);
	json_add_string(walk->reply, "comm", task.comm);
	json_add_text(walk->reply, "state", &task.state, 1);
	json_add_bool(walk->reply, "kthread", task.kthread);
	if (walk->proc.has_patch_state)
		json_add_number(walk->reply, "patch_state", patch_state);
	else
		json_add_null(walk->reply, "patch_state");
	json_add_number(walk->reply, "cpu", task.cpu);
	json_end(walk->reply, '}');
	return 0;
}

static int list_thread(void *context, pid_t pid, pid_t tid)
{
	return add_task(context, pid, tid, false);
}

static int list_threads_of(void *context, pid_t pid)
{
	struct walk *walk = context;

	return proc_each_thread(&walk->proc, pid, list_thread, walk);
}

int job_tasks(const struct request *request, struct text *reply)
{
	struct walk walk = { .reply = reply };
	int ret;

	(void)request;
	ret = proc_open(&walk.proc);
	if (ret)
		return ret;
	json_add_number(reply, "monotonic_us", now_us());
	json_key(reply, "tasks");
	json_begin(reply, '[');
	ret = proc_each_process(&walk.proc, list_threads_of, &walk);
	json_end(reply, ']');
	close(walk.proc.fd);
	return ret;
}

static bool is_excepted(const struct walk *walk, pid_t tid)
{
	unsigned int i;

	for (i = 0; i < walk->excepted; i++)
		if (walk->except[i] == tid)
			return true;
	return tid == walk->self;
}

/* Ends the iteration at the first thread in another state. */
static int find_straggler(void *context, pid_t pid, pid_t tid)
{
	struct walk *walk = context;
	int patch_state;
	int error;

	(void)pid;
	if (is_excepted(walk, tid))
		return 0;
	error = proc_patch_state(&walk->proc, tid, &patch_state);
	if (error)
		return proc_is_gone(error) ? 0 : error;
	if (patch_state == walk->wanted)
		return 0;
	walk->straggler = tid;
	return 1;
}

static int find_straggler_of(void *context, pid_t pid)
{
	struct walk *walk = context;

	return proc_each_thread(&walk->proc, pid, find_straggler, walk);
}

/*
 * Returns 1 when a thread is not in the wanted state, 0, or a negative errno. The
 * straggler that was found last is checked first: while it remains, no other is.
 */
static int has_straggler(struct walk *walk)
{
	int ret = 0;

	if (walk->straggler)
		ret = find_straggler(walk, 0, walk->straggler);
	return ret ? ret : proc_each_process(&walk->proc, find_straggler_of, walk);
}

static int list_straggler(void *context, pid_t pid, pid_t tid)
{
	return is_excepted(context, tid) ? 0 : add_task(context, pid, tid, true);
}

static int list_stragglers_of(void *context, pid_t pid)
{
	struct walk *walk = context;

	return proc_each_thread(&walk->proc, pid, list_straggler, walk);
}

/* Parses a comma-separated list of thread ids, and changes it. Returns false when it is wrong. */
static bool parse_except(struct walk *walk, char *list)
{
	char *rest = list, *item;
	long long tid;

	while (*list && (item = strsep(&rest, ","))) {
		if (walk->excepted == EXCEPT_MAX || !parse_number(item, INT_MAX, &tid))
			return false;
		walk->except[walk->excepted++] = tid;
	}
	return true;
}

/* Returns 0 when all have the wanted state, 1 at the deadline, or a negative errno. */
static int wait_for_all(struct walk *walk, struct pause *pause)
{
	int ret;

	for (;;) {
		ret = has_straggler(walk);
		if (ret <= 0 || pause_over(pause))
			return ret;
		pause_wait(pause);
	}
}

/* Adds the stragglers to the reply. Returns 0 when there are none any more, or a negative errno. */
static int list_stragglers(struct walk *walk)
{
	size_t start;
	int ret;

	json_key(walk->reply, "stragglers");
	json_begin(walk->reply, '[');
	start = walk->reply->len;
	ret = proc_each_process(&walk->proc, list_stragglers_of, walk);
	if (!ret && walk->reply->len > start)
		ret = -ETIMEDOUT;
	json_end(walk->reply, ']');
	return ret;
}

int job_poll_tasks(const struct request *request, struct text *reply)
{
	struct walk walk = { .reply = reply, .self = getpid() };
	const char *state = request->args[0].text;
	long long wanted, timeout_ms, interval_ms;
	struct pause pause;
	int ret;

	if (!parse_number(state + (*state == '-'), 1, &wanted))
		return output_invalid(reply, "STATE is none of -1, 0, 1");
	walk.wanted = *state == '-' ? -wanted : wanted;
	if (!parse_except(&walk, request->args[1].text))
		return output_invalid(reply, "EXCEPT is not a comma list of up to 1024 thread ids");
	if (!parse_number(request->args[2].text, AGENT_POLL_MAX_MS, &timeout_ms))
		return output_invalid(reply, "TIMEOUT_MS is not a number up to a week");
	if (!parse_number(request->args[3].text, AGENT_POLL_MAX_MS, &interval_ms) || !interval_ms)
		return output_invalid(reply, "INTERVAL_MS is not a number from 1 up to a week");

	ret = proc_open(&walk.proc);
	if (ret)
		return ret;
	if (walk.proc.has_patch_state) {
		pause = pause_begin(timeout_ms, interval_ms);
		ret = wait_for_all(&walk, &pause);
		json_add_number(reply, "waited_ms", pause_waited_ms(&pause));
		if (ret > 0)
			ret = list_stragglers(&walk);
	} else {
		json_add_string(reply, "error", "this kernel has no /proc/PID/patch_state");
		ret = -ENOENT;
	}
	close(walk.proc.fd);
	return ret;
}
