// SPDX-License-Identifier: GPL-2.0-only
#include "duel_hog.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "duel.h"
#include "duel_step.h"

#define POLL_US		2000
#define ABOVE_HOG	2
#define PATH_ROOM	300

static int raise_kthread(const char *pid, void *prefixes)
{
	struct sched_param above = { .sched_priority = ABOVE_HOG };
	const char *const *prefix;
	char path[PATH_ROOM], name[PATH_ROOM];

	snprintf(path, sizeof(path), "/proc/%s/comm", pid);
	if (*pid < '0' || *pid > '9' || step_read(path, name, sizeof(name)))
		return 0;
	for (prefix = prefixes; *prefix; prefix++)
		if (!strncmp(name, *prefix, strlen(*prefix)))
			sched_setscheduler(atoi(pid), SCHED_FIFO, &above);
	return 0;
}

void hog_be(void)
{
	static const char *const threads[] = { "kworker/0:", "ksoftirqd/0", "rcu", "cpuhp", NULL };
	struct sched_param low = { .sched_priority = 1 };

	duel_await_arm(0, "klp-duel-hog");
	if (duel_words->arm < 2)
		for (;;)
			pause();
	step_write("/proc/sys/kernel/sched_rt_runtime_us", "-1");
	step_each("/proc", raise_kthread, (void *)threads);
	sched_setscheduler(0, SCHED_FIFO, &low);
	for (;;) {
		while (!duel_words->hog)
			duel_nap(POLL_US);
		duel_pass(DUEL_HOG);
		while (duel_words->hog)
			__builtin_ia32_pause();
	}
}
