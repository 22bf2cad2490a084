// SPDX-License-Identifier: GPL-2.0-only
/*
 * A child that its parent traces, and that stops for it (ptrace(2)).
 *
 *	klp-stopped
 *
 * It prints {"traced":PID} when the child is stopped. At SIGTERM or at the end of
 * its input it kills the child.
 */

#include <err.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib_common.h"
#include "lib_stop.h"
#include "lib_text.h"

#define SECOND_US	1000000

static void be_traced(void)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) || raise(SIGSTOP))
		_exit(1);
	_exit(0);
}

int main(void)
{
	struct text json = {};
	pid_t child;
	int status;

	stop_prepare();
	child = fork();
	if (child < 0)
		err(1, "fork");
	if (!child)
		be_traced();
	if (waitpid(child, &status, 0) != child || !WIFSTOPPED(status))
		errx(1, "the child has not stopped: %#x", status);

	json_begin(&json, '{');
	json_add_number(&json, "traced", child);
	json_end_line(&json);
	if (write_all(STDOUT_FILENO, json.data, json.len))
		exit(1);
	text_free(&json);
	while (!stop_wait(now_us() + SECOND_US))
		;
	kill(child, SIGKILL);
	waitpid(child, &status, 0);
	return 0;
}
