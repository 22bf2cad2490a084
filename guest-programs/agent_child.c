// SPDX-License-Identifier: GPL-2.0-only
/*
 * Starts children that hold on to nothing of the agent's and of each other:
 * one that is stuck in the kernel for ever must not keep a pipe open.
 */

#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "agent.h"
#include "klp_common.h"

int child_null_fd;

pid_t child_fork(const int *fds, unsigned int count)
{
	pid_t agent = getpid();
	sigset_t none;
	unsigned int i;
	pid_t pid;

	pid = fork();
	if (pid)
		return pid;

	setpgid(0, 0);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != agent)
		_exit(1);

	for (i = 0; i < count; i++) {
		if (fds[i] < 0)
			close(i);
		else
			dup2(fds[i], i);
	}
	close_range(count, ~0U, 0);

	/* What was ignored when the agent started would be ignored in its programs too. */
	for (i = 1; i < NSIG; i++)
		signal(i, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	return 0;
}

/* A child that was reaped may have left others in its group; its own number may be another's. */
void child_kill(pid_t pid, bool reaped)
{
	kill(-pid, SIGKILL);
	if (!reaped)
		kill(pid, SIGKILL);
}
