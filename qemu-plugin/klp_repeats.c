// SPDX-License-Identifier: GPL-2.0-only
/*
 * Which entries and returns are events, and which only repeat one: see klp_repeats.h. The CPUs of a
 * guest take turns on one thread of QEMU (thread=single), so nothing here is locked.
 *
 * checkpatch: ignore PREFER_KERNEL_TYPES: a library of user space
 */
#include <stddef.h>

#include "klp_repeats.h"

enum { TASKS = 1 << 10, SEEN = 1 << 16, DEEPEST = 16, PROBES = 8 };

/* A stack has no room for more calls: THREAD_SIZE of x86_64 is 32 KiB at most, with KASAN. */
enum { MOST_CALLS = 4096 };

/* What is held back of a task, the outermost first; of task 0: a free place. */
struct held_task {
	uint64_t task;
	unsigned int depth, returns;	/* how often it returned since it entered anything */
	struct held_entry entries[DEEPEST];
};

static struct held_task tasks[TASKS];
static unsigned int n_held;

/* Who entered what in which period; one that another has replaced is reported once more. */
static struct {
	uint64_t task, where, period;
} seen[SEEN];

static uint64_t period = 1, table;

static uint64_t hash(uint64_t value)
{
	return (value * 0x9e3779b97f4a7c15ULL) >> 32;
}

static void release(struct held_task *held, report_held report)
{
	for (unsigned int i = 0; i < held->depth; i++)
		report(&held->entries[i], held->task);
	n_held -= held->depth;
	held->depth = 0;
}

void repeats_end(report_held report)
{
	for (size_t i = 0; n_held && i < TASKS; i++)
		release(&tasks[i], report);
	period++;
}

/* What is held back was entered by the functions of the table before. */
static void follow_table(const struct klp_shared *shared, report_held report)
{
	uint64_t now = __atomic_load_n(&shared->table, __ATOMIC_ACQUIRE);

	if (now == table)
		return;
	repeats_end(report);
	table = now;
}

static const struct klp_function *function_at(const struct klp_shared *shared, uint64_t address)
{
	const struct klp_function *functions = shared->functions[table % 2];
	size_t low = 0, high = shared->n_functions[table % 2];

	if (high > KLP_FUNCTIONS)
		return NULL;
	while (low < high) {
		size_t middle = (low + high) / 2;

		if (address >= functions[middle].end)
			low = middle + 1;
		else
			high = middle;
	}
	if (low == shared->n_functions[table % 2] || address < functions[low].start)
		return NULL;
	return &functions[low];
}

/* The place of a task; NULL when there is none free for it. */
static struct held_task *place_of(uint64_t task)
{
	struct held_task *empty = NULL;

	for (unsigned int i = 0; i < PROBES; i++) {
		struct held_task *held = &tasks[(hash(task) + i) % TASKS];

		if (held->task == task)
			return held;
		if (!held->depth && !empty)
			empty = held;
	}
	if (empty) {
		empty->task = task;
		empty->returns = 0;
	}
	return empty;
}

/* Whether a task has entered that body in this period; from now on it has. */
static bool was_seen(uint64_t task, uint64_t where)
{
	size_t place = hash(task ^ hash(where)) % SEEN;
	bool same = seen[place].task == task && seen[place].where == where &&
		    seen[place].period == period;

	seen[place].task = task;
	seen[place].where = where;
	seen[place].period = period;
	return same;
}

bool repeats_entry(struct klp_shared *shared, const struct held_entry *entry, uint64_t task,
		   report_held report)
{
	const struct klp_function *function;
	struct held_task *held;

	follow_table(shared, report);
	held = task ? place_of(task) : NULL;
	if (!held)
		return false;
	held->returns = 0;
	function = function_at(shared, entry->where);
	if (!function || function->body != entry->where || !was_seen(task, entry->where) ||
	    held->depth == DEEPEST) {
		/* They are reported in the order in which they were entered. */
		release(held, report);
		return false;
	}
	shared->n_repeated++;
	if (function->flags & KLP_IS_LEFT) {
		held->entries[held->depth++] = *entry;
		n_held++;
	}
	return true;
}

bool repeats_return(struct klp_shared *shared, uint64_t where, uint64_t task, report_held report)
{
	const struct klp_function *function;
	struct held_task *held;

	follow_table(shared, report);
	function = function_at(shared, where);
	if (function && !function->body)
		return true;
	held = task ? place_of(task) : NULL;
	if (!held)
		return false;
	/* A return of an outer body ends those in it. */
	for (unsigned int depth = held->depth; function && depth-- > 0;) {
		if (held->entries[depth].where == function->body) {
			n_held -= held->depth - depth;
			held->depth = depth;
			return true;
		}
	}
	release(held, report);
	/* ftrace's own code returns for each function that is traced, and was never entered. */
	if (held->returns == MOST_CALLS)
		return true;
	held->returns++;
	return false;
}
