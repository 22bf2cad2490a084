// SPDX-License-Identifier: GPL-2.0-only
#include "duel_epilogue.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "duel.h"
#include "duel_step.h"
#include "lib_common.h"

#define PATCHES		"/sys/kernel/livepatch"
#define SETTLE_TIMES	600
#define STATES		2
#define SHOWN		6
#define POLL_US		10000
#define SHORT_US	5000
#define FREE_TIMES	200
#define UNLOAD_TIMES	200
#define ROUNDS		6
#define PATH_ROOM	400
#define TEXT_ROOM	64
#define LINE_ROOM	512

static void add(char *text, size_t room, const char *format, ...)
{
	size_t len = strlen(text);
	va_list args;

	va_start(args, format);
	vsnprintf(text + len, room - len, format, args);
	va_end(args);
}

#define problem(...)									\
	do {										\
		duel_words->bad++;							\
		add(duel_findings->problems, sizeof(duel_findings->problems), __VA_ARGS__); \
	} while (0)
void epilogue_complain(const char *what)
{
	problem("%s; ", what);
}

#define state(...) add(duel_findings->state, sizeof(duel_findings->state), __VA_ARGS__)

static bool is(const char *patch, const char *attribute, const char *value)
{
	char path[PATH_ROOM], text[TEXT_ROOM];

	snprintf(path, sizeof(path), PATCHES "/%s/%s", patch, attribute);
	return !step_read(path, text, sizeof(text)) && !strcmp(text, value);
}

static int in_transition(const char *patch, void *who)
{
	if (!is(patch, "transition", "1"))
		return 0;
	snprintf(who, LINE_ROOM, "%s is in transition", patch);
	return 1;
}

/* How many threads have each patch state, and the first ones. */
struct holders {
	int count[STATES];
	char tids[STATES][TEXT_ROOM];
};

static int has_state(const char *tid, void *holders)
{
	struct holders *all = holders;
	char path[PATH_ROOM], text[TEXT_ROOM];
	int state;

	snprintf(path, sizeof(path), "/proc/%s/patch_state", tid);
	if (step_read(path, text, sizeof(text)))
		return 0;
	state = atoi(text);
	if (state < 0 || state >= STATES)
		return 0;
	if (all->count[state]++ < SHOWN)
		add(all->tids[state], TEXT_ROOM, " %s", tid);
	return 0;
}

static int threads_have_states(const char *pid, void *holders)
{
	char path[PATH_ROOM];

	if (*pid < '0' || *pid > '9')
		return 0;
	snprintf(path, sizeof(path), "/proc/%s/task", pid);
	return step_each(path, has_state, holders);
}

static void add_holders(char *who)
{
	struct holders all = {};
	int state;

	step_each("/proc", threads_have_states, &all);
	for (state = 0; state < STATES; state++)
		if (all.count[state])
			add(who, LINE_ROOM, ", patch state %d: %d threads (%s%s)", state,
			    all.count[state], all.tids[state] + 1,
			    all.count[state] > SHOWN ? " ..." : "");
}

/* Most polls look at the patches alone: to read all threads' states takes much longer. */
static bool is_unsettled(char *who, bool threads)
{
	*who = '\0';
	if (!step_each(PATCHES, in_transition, who) && threads)
		add_holders(who);
	return *who;
}

/* Also one whose attributes have gone, but not yet itself. */
static int is_going(const char *patch, void *count)
{
	*(int *)count += !is(patch, "enabled", "1");
	return 0;
}

/* Counts polls, and not time: a host that is busy gives the guest few of both. */
static void settle(bool threads, long poll_us, unsigned long most_retries)
{
	int times, going;
	char who[LINE_ROOM];

	for (times = 0; is_unsettled(who, threads); times++) {
		if (times == SETTLE_TIMES) {
			if (*who != ',')
				add_holders(who);
			problem("not settled: %s; ", *who == ',' ? who + 2 : who);
			return;
		}
		/* Not at once: a child would be switched before it has run at all. */
		if (times > 1)
			step_retry(times, most_retries);
		duel_nap(poll_us);
	}
	/* A worker removes the patch, a little later. */
	for (times = 0; times < FREE_TIMES; times++) {
		going = 0;
		step_each(PATCHES, is_going, &going);
		if (!going)
			break;
		duel_nap(SHORT_US);
	}
}

void epilogue_settle(bool threads)
{
	/* Steps may have made all of theirs. */
	settle(threads, POLL_US, duel_words->retries > HELD_RETRIES ?
	       duel_words->retries + HELD_RETRIES : MOST_RETRIES);
}

void epilogue_end_transitions(void)
{
	settle(false, SHORT_US, ANY_RETRIES);
}

static int describe_object(const char *name, void *patch)
{
	char path[PATH_ROOM], text[TEXT_ROOM];

	snprintf(path, sizeof(path), PATCHES "/%s/%s/patched", (const char *)patch, name);
	if (!step_read(path, text, sizeof(text)))
		state(" %s:%s", name, text);
	return 0;
}

static int describe_patch(const char *patch, void *separator)
{
	char path[PATH_ROOM];

	state("%s=%d", patch, is(patch, "enabled", "1"));
	snprintf(path, sizeof(path), PATCHES "/%s", patch);
	step_each(path, describe_object, (void *)patch);
	state("%s", (const char *)separator);
	return 0;
}

static int describe_module(const char *name, void *prefix)
{
	char path[PATH_ROOM], text[TEXT_ROOM];

	if (strncmp(name, prefix, strlen(prefix)) || !strcmp(name, DUEL_RETRY))
		return 0;
	snprintf(path, sizeof(path), "/sys/module/%s/refcnt", name);
	step_read(path, text, sizeof(text));
	state(" %s/%s", name, text);
	return 0;
}

static void describe_hooks(void)
{
	FILE *file = fopen("/sys/kernel/tracing/enabled_functions", "r");
	char line[LINE_ROOM], name[LINE_ROOM];

	while (file && fgets(line, sizeof(line), file))
		if (sscanf(line, "%511s", name) == 1)
			state(" %s", name);
	if (file)
		fclose(file);
}

void epilogue_describe(void)
{
	static const char *const files[] = {
		"/proc/cmdline", "/sys/kernel/klp_target/pair", "/sys/kernel/klp_shadow/variable",
	};
	char text[TEXT_ROOM];
	unsigned int n;

	state("patches: ");
	step_each(PATCHES, describe_patch, "; ");
	state("modules:");
	step_each("/sys/module", describe_module, "klp_");
	state("; hooks:");
	describe_hooks();
	for (n = 0; n < ARRAY_SIZE(files); n++)
		if (!step_read(files[n], text, sizeof(text)))
			state("; %s: %s", files[n], text);
}

static void do_orders(void)
{
	char orders[sizeof(duel_orders->after)], *cursor = orders, *line;
	int ret;

	memcpy(orders, duel_orders->after, sizeof(orders));
	while ((line = strsep(&cursor, "\n"))) {
		bool may_fail = *line == '?';

		ret = *line ? step_do(line + may_fail) : 0;
		if (ret && !may_fail)
			problem("%s: %s; ", line, strerror(ret));
	}
}

static int disable(const char *patch, void *count)
{
	char path[PATH_ROOM];

	if (is(patch, "enabled", "1")) {
		snprintf(path, sizeof(path), PATCHES "/%s/enabled", patch);
		step_write(path, "0");
	}
	*(int *)count += 1;
	return 0;
}

static int complain(const char *patch, void *kind)
{
	problem("%s %s stays; ", (const char *)kind, patch);
	return 0;
}

/* Returns for how many modules of ours @call returns that they are still there. */
static int each_module(bool (*call)(const char *name, bool last), bool last)
{
	FILE *file = fopen("/proc/modules", "r");
	char line[LINE_ROOM], name[LINE_ROOM];
	int left = 0;

	while (file && fgets(line, sizeof(line), file)) {
		if (sscanf(line, "%511s", name) != 1 || strncmp(name, "klp_", 4) ||
		    !strcmp(name, DUEL_RETRY))
			continue;
		left += call(name, last);
	}
	if (file)
		fclose(file);
	return left;
}

static bool unload(const char *name, bool last)
{
	int ret = syscall(SYS_delete_module, name, O_NONBLOCK) ? errno : 0;

	if (!ret || ret == ENOENT)
		return false;
	if (last)
		problem("module %s stays: %s; ", name, strerror(ret));
	return true;
}

/* The kernel never lets go of it by itself. */
static bool release(const char *name, bool last)
{
	char path[PATH_ROOM], text[TEXT_ROOM];

	snprintf(path, sizeof(path), "/sys/module/%s/refcnt", name);
	if (step_read(path, text, sizeof(text)) || strcmp(text, "1"))
		return unload(name, last);
	snprintf(path, sizeof(path), "/sys/module/%s/sections/.gnu.linkonce.this_module", name);
	if (!step_read(path, text, sizeof(text)))
		step_write("/sys/module/" DUEL_RETRY "/parameters/release", text);
	return unload(name, last);
}

void epilogue_undo(void)
{
	int round, left;

	duel_pin(1);
	step_expedite(true);
	do_orders();
	for (round = 0; round < ROUNDS; round++) {
		left = 0;
		step_each(PATCHES, disable, &left);
		if (!left)
			break;
		settle(false, SHORT_US, ANY_RETRIES);
	}
	step_each(PATCHES, complain, "patch");
	/* Targets go after the patches that use them, and these once a worker lets them go. */
	for (round = 1; each_module(unload, round == UNLOAD_TIMES); round++) {
		if (round == UNLOAD_TIMES)
			break;
		duel_nap(SHORT_US);
	}
	settle(true, SHORT_US, ANY_RETRIES);
}

void epilogue_release(void)
{
	each_module(release, true);
}
