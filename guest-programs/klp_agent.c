// SPDX-License-Identifier: GPL-2.0-only
/*
 * The guest's side of the harness: reads requests on standard input and writes
 * replies and events to standard output, in lines. README.md has the protocol.
 *
 * This process makes few system calls itself, because a livepatch may have
 * changed any of them: children serve the requests, see agent_job.h. So it
 * answers "hello" as long as the guest runs.
 *
 * checkpatch: ignore VOLATILE: what a signal handler sets is a volatile sig_atomic_t in C11
 */

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <malloc.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent_child.h"
#include "agent_files.h"
#include "agent_job.h"
#include "agent_klog.h"
#include "agent_output.h"
#include "agent_request.h"
#include "agent_spawn.h"
#include "agent_tasks.h"
#include "agent_watch.h"
#include "lib_common.h"

#define MMAP_THRESHOLD	(128 << 10)
#define LAST_WAIT_MS	200

static volatile sig_atomic_t asked_to_end;
static volatile sig_atomic_t child_died;

static bool reports_taken;
static bool stays;
static bool host_left;

/* Read at the start, so that "hello" opens no file. */
static struct {
	char release[sizeof(((struct utsname *)0)->release)];
	char boot_id[40];
	long cpus_online;
} facts;

static void serve_hello(const struct request *request)
{
	struct text *json = output_reply(request->id);

	json_add_number(json, "protocol", AGENT_PROTOCOL);
	json_add_string(json, "release", facts.release);
	json_add_number(json, "cpus_online", facts.cpus_online);
	json_add_number(json, "pid", getpid());
	json_add_string(json, "boot_id", facts.boot_id);
	json_add_number(json, "uptime_us", clock_us(CLOCK_BOOTTIME));
	json_add_number(json, "monotonic_us", now_us());
	output_end_reply(json, 0);
}

/* 0 (the agent's own process group) and -1 (every process) are refused. */
static void serve_signal(const struct request *request)
{
	const char *pid_text = request->args[0].text;
	bool group = *pid_text == '-';
	long long pid, number;

	if (!parse_number(pid_text + group, INT_MAX, &pid) || pid <= group) {
		output_error(request->id, EINVAL, "PID is neither a process nor -GROUP");
		return;
	}
	if (!parse_number(request->args[1].text, SIGRTMAX, &number)) {
		output_error(request->id, EINVAL, "SIGNO is not a signal number");
		return;
	}
	output_error(request->id, kill(group ? -pid : pid, number) < 0 ? errno : 0, NULL);
}

static const struct verb verbs[] = {
	{ "hello", 0, 0, -1, NULL, serve_hello, "hello" },
	{ "read", 1, 2, -1, job_read, NULL, "read PATH [MAX_BYTES]" },
	{ "write", 2, 2, 1, job_write, NULL, "write PATH TEXT" },
	{ "create", 2, 2, 1, job_create, NULL, "create PATH TEXT" },
	{ "list", 1, 1, -1, job_list, NULL, "list DIR" },
	{ "stat", 1, 1, -1, job_stat, NULL, "stat PATH" },
	{ "insmod", 2, 2, -1, job_insmod, NULL, "insmod PATH PARAMS" },
	{ "rmmod", 1, 1, -1, job_rmmod, NULL, "rmmod NAME" },
	{ "tasks", 0, 0, -1, job_tasks, NULL, "tasks" },
	{ "stack", 1, 1, -1, job_stack, NULL, "stack TID" },
	{ "poll-file", 5, 5, 2, job_poll_file, NULL,
	  "poll-file PATH OP VALUE TIMEOUT_MS INTERVAL_MS" },
	{ "poll-tasks", 4, 4, -1, job_poll_tasks, NULL,
	  "poll-tasks STATE EXCEPT TIMEOUT_MS INTERVAL_MS" },
	{ "klog", 1, 1, -1, job_klog, NULL, "klog SINCE_SEQ" },
	{ "spawn", 1, AGENT_ARGS_MAX, -1, NULL, spawn_start, "spawn PATH [ARG...]" },
	{ "stdin", 2, 2, 1, NULL, spawn_stdin, "stdin PID TEXT" },
	{ "close-stdin", 1, 1, -1, NULL, spawn_close_stdin, "close-stdin PID" },
	{ "signal", 2, 2, -1, NULL, serve_signal, "signal PID SIGNO" },
};

/* Returns NULL when there is no such verb; @name is not terminated. */
static const struct verb *find_verb(const char *name, size_t len)
{
	const struct verb *verb, *end = verbs + ARRAY_SIZE(verbs);

	for (verb = verbs; verb < end; verb++)
		if (strlen(verb->name) == len && !memcmp(verb->name, name, len))
			return verb;
	return NULL;
}

static void serve_line(char *line, size_t len)
{
	static struct request request;
	const struct verb *verb = NULL;
	const char *name, *wrong;
	size_t name_len;
	long long id;

	if (request_peek(line, len, &id, &name, &name_len))
		verb = find_verb(name, name_len);
	/* The child parses the rest. */
	if (verb && verb->job) {
		job_start(verb, id, line, len);
		return;
	}
	wrong = request_parse(&request, line, len);
	if (!wrong)
		wrong = verb ? request_check(&request, verb) : "unknown verb";
	if (wrong)
		output_error(request.id, EINVAL, wrong);
	else
		verb->serve(&request);
}

/* What was read of requests. A line that is too long is refused by its number, and skipped. */
static struct {
	struct text text;
	size_t searched;		/* no newline before this */
	bool skipping;
} input;

static void refuse_long_line(void)
{
	static struct request request;

	request_parse(&request, input.text.data, strnlen(input.text.data, 64));
	output_error(request.id, E2BIG, "the line is longer than 8 MiB");
	input.skipping = true;
	text_free(&input.text);
}

/* Returns false at the end of the input. */
static bool serve_input(void)
{
	struct text *text = &input.text;
	size_t from = 0;
	char *newline;
	ssize_t len;

	text_reserve(text, AGENT_READ_SIZE);
	len = read(STDIN_FILENO, text->data + text->len, AGENT_READ_SIZE);
	if (len < 0)
		return errno == EINTR || errno == EAGAIN;
	if (!len)
		return false;
	text->len += len;
	if (reports_taken)
		output_taken(len);

	while ((newline = memchr(text->data + input.searched, '\n', text->len - input.searched))) {
		if (!input.skipping)
			serve_line(text->data + from, newline - (text->data + from));
		input.skipping = false;
		from = newline + 1 - text->data;
		input.searched = from;
	}
	text_drop(text, from);
	if (input.skipping)
		text->len = 0;
	if (text->len > AGENT_LINE_MAX)
		refuse_long_line();
	input.searched = text->len;
	/* Every fork copies the page tables of what is kept. */
	if (!text->len && text->room > 2 * AGENT_READ_SIZE)
		text_free(text);
	return true;
}

static void reap(void)
{
	int status;
	pid_t pid;

	if (!child_died)
		return;
	child_died = 0;
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		if (!job_reaped(pid, status))
			spawn_reaped(pid, status);
}

static void on_child(int signo)
{
	(void)signo;
	child_died = 1;
}

static void on_end(int signo)
{
	(void)signo;
	asked_to_end = 1;
}

/* Signals are blocked except while the loop waits; @waiting is the mask for that. */
static void prepare_signals(sigset_t *waiting)
{
	const int ending[] = { SIGTERM, SIGINT, SIGHUP };
	struct sigaction action = { .sa_handler = on_end };
	sigset_t blocked;
	unsigned int i;

	sigprocmask(SIG_SETMASK, NULL, waiting);
	sigemptyset(&blocked);
	sigaddset(&blocked, SIGCHLD);
	sigdelset(waiting, SIGCHLD);
	for (i = 0; i < ARRAY_SIZE(ending); i++) {
		sigaction(ending[i], &action, NULL);
		sigaddset(&blocked, ending[i]);
		sigdelset(waiting, ending[i]);
	}
	action.sa_handler = on_child;
	sigaction(SIGCHLD, &action, NULL);
	sigprocmask(SIG_BLOCK, &blocked, NULL);
	signal(SIGPIPE, SIG_IGN);
}

static void read_facts(void)
{
	struct utsname name;

	uname(&name);
	snprintf(facts.release, sizeof(facts.release), "%s", name.release);
	facts.cpus_online = sysconf(_SC_NPROCESSORS_ONLN);
	if (!read_short(AT_FDCWD, "/proc/sys/kernel/random/boot_id", facts.boot_id,
			sizeof(facts.boot_id)))
		facts.boot_id[strcspn(facts.boot_id, "\n")] = '\0';
}

/* Kills everything that was started, and reaps what dies in time. */
static void end_children(const sigset_t *waiting)
{
	long long until = now_us() + LAST_WAIT_MS * 1000, left_us;
	struct timespec left;

	for (;;) {
		bool any = job_kill_all() | spawn_kill_all();

		left_us = until - now_us();
		if (!any || left_us <= 0)
			return;
		left = timespec_of_us(left_us);
		ppoll(NULL, 0, &left, waiting);
		reap();
	}
}

static bool serve_round(const sigset_t *waiting)
{
	int watched;

	watch_begin();
	watched = watch_add(host_left ? -1 : STDIN_FILENO, POLLIN);
	job_watch();
	spawn_watch();
	if (!watch_wait(waiting))
		return false;
	reap();
	job_serve();
	spawn_serve();
	if (watch_result(watched) && !serve_input()) {
		if (!stays)
			return false;
		host_left = true;
		output_end();
	}
	output_flush();
	return !asked_to_end;
}

int main(int argc, char *argv[])
{
	sigset_t waiting;

	reports_taken = argc == 2 && !strcmp(argv[1], "report-taken");
	stays = argc == 2 && !strcmp(argv[1], "stay");
	if (argc > 1 && !reports_taken && !stays) {
		fprintf(stderr, "usage: klp-agent [report-taken|stay]\n");
		return 2;
	}

	if (!child_prepare())
		return 1;

	/* Memory of one large request is returned to the system. */
	mallopt(M_MMAP_THRESHOLD, MMAP_THRESHOLD);
	prepare_signals(&waiting);
	read_facts();
	/* Reads the kernel log to its end, where the next reader continues. */
	job_prepare(find_verb("klog", strlen("klog")), "klog 999999999999999999");
	output_ready();
	if (stays) {
		setsid();
		output_stay();
	}
	while (serve_round(&waiting))
		;
	output_flush();
	end_children(&waiting);
	return 0;
}
