// SPDX-License-Identifier: GPL-2.0-only
/*
 * A thread named "klp-leaving" exits, and its process continues.
 *
 *	klp-leaver
 *
 * The thread prints {"leaving":TID} just before it exits. klp_test_exit
 * (livepatch-modules/) has a task of that name sleep in do_exit(). Ends at
 * SIGTERM or at the end of its input.
 *
 * The thread splices first, so that the kernel frees a pipe when it exits: old
 * kernels have no other function there that can be patched.
 */

#include <err.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/sendfile.h>
#include <unistd.h>

#include "lib_common.h"
#include "lib_stop.h"
#include "lib_text.h"

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

	stop_prepare();
	error = pthread_create(&thread, NULL, leave, NULL);
	if (error)
		errx(1, "pthread_create: %s", strerror(error));
	pthread_detach(thread);
	while (!stop_wait(now_us() + SECOND_US))
		;
	return 0;
}
