// SPDX-License-Identifier: GPL-2.0-only
/*
 * A thread named "klp-leaving" ends, and its process goes on.
 *
 *	klp-leaver
 *
 * The thread says {"leaving":TID} just before it ends. klp_test_exit
 * (livepatch-modules/) lets a task of that name sleep on its way out. Ends at
 * SIGTERM or at the end of its input.
 *
 * Before, the thread splices, so that the kernel has a pipe to free when it
 * ends: old kernels have nothing else that can be patched there.
 */

#include <err.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/sendfile.h>

#include "klp_common.h"
#include "klp_ending.h"
#include "klp_text.h"

#define SECOND_US	1000000

static void splice_something(void)
{
	int from = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	int to = open("/dev/null", O_WRONLY | O_CLOEXEC);

	if (from < 0 || to < 0 || sendfile(to, from, NULL, 1) != 1)
		err(1, "sendfile");
	close(from);
	close(to);
}

static void *leave(void *unused)
{
	struct text json = {};

	splice_something();
	prctl(PR_SET_NAME, "klp-leaving");
	json_begin(&json, '{');
	json_add_number(&json, "leaving", gettid());
	json_end_line(&json);
	if (write_all(STDOUT_FILENO, json.data, json.len))
		exit(1);
	text_free(&json);
	return unused;
}

int main(void)
{
	pthread_t thread;
	int error;

	ending_prepare();
	error = pthread_create(&thread, NULL, leave, NULL);
	if (error)
		errx(1, "pthread_create: %s", strerror(error));
	pthread_detach(thread);
	while (!ending_wait(now_us() + SECOND_US))
		;
	return 0;
}
