// SPDX-License-Identifier: GPL-2.0-only
/*
 * A child inherits no descriptors of the agent or of other children: one that is
 * stuck in the kernel forever must not keep a pipe open.
 */

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "agent_child.h"

int child_null_fd;

bool child_prepare(void)
{
	/* The three standard descriptors are taken after this, so no pipe gets their number. */
	do {
		child_null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	} while (child_null_fd >= 0 && child_null_fd <= STDERR_FILENO);
	return child_null_fd >= 0;
}

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

	/* A signal that is ignored stays ignored across exec. */
	for (i = 1; i < NSIG; i++)
		signal(i, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	return 0;
}

void child_kill(pid_t pid, bool reaped)
{
	kill(-pid, SIGKILL);
	if (!reaped)
		kill(pid, SIGKILL);
}
