// SPDX-License-Identifier: GPL-2.0-only
#include "duel_prologue.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "duel.h"
#include "duel_epilogue.h"
#include "duel_step.h"

#define GATE		"/dev/klp_gate"
#define WAITING		"/proc/klp_gate_waiting"
#define WAIT_TIMES	2000
#define WAIT_US		5000
#define TEXT_ROOM	256

/* In gate 0. */
static int start_sleeper(void)
{
	char text[TEXT_ROOM];
	int times, ret;
	pid_t pid;

	ret = step_write(GATE, "close 0");
	if (ret)
		return ret;
	pid = fork();
	if (pid < 0)
		return errno;
	if (!pid) {
		execlp("klp-gate", "klp-gate", "read", "0", NULL);
		_exit(1);
	}
	for (times = 0; times < WAIT_TIMES; times++) {
		ret = step_read(WAITING, text, sizeof(text));
		if (ret || *text)
			break;
		duel_nap(WAIT_US);
	}
	if (times == WAIT_TIMES)
		epilogue_complain("no task sleeps in the gate");
	return ret;
}

static int do_line(const char *line)
{
	if (!strncmp(line, "first ", 6))
		return duel_words->rounds ? 0 : step_do(line + 6);
	if (!strcmp(line, "settled")) {
		epilogue_end_transitions();
		return 0;
	}
	if (!strcmp(line, "sleeper"))
		return start_sleeper();
	return step_do(line);
}

int prologue_do(char **lines)
{
	char text[2 * TEXT_ROOM];
	int ret;

	duel_pin(1);
	step_expedite(true);
	epilogue_release();
	for (; *lines && !duel_words->bad; lines++) {
		ret = do_line(*lines);
		if (ret) {
			snprintf(text, sizeof(text), "%s: %s", *lines, strerror(ret));
			epilogue_complain(text);
		}
	}
	step_expedite(false);
	duel_words->retries = 0;
	return !!duel_words->bad;
}
