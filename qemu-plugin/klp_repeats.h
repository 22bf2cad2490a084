/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Which entries and returns are events, and which only repeat one.
 *
 * A function that is called in a loop makes millions of entries, all but the first of which say
 * nothing: what is right for a task changes with the events of the kinds KLP_POINT and KLP_STORE
 * alone. So an entry by the same task, since the last of these, into the same body is held back. If
 * the task leaves the body again before the next of these, both the entry and the return are left
 * out; or else the entry is reported before it. Thus whoever reads the events knows at each of
 * these who is in which body, and has seen each body that each task has entered before.
 *
 * checkpatch: ignore PREFER_KERNEL_TYPES: a library of user space
 */
#ifndef KLP_REPEATS_H
#define KLP_REPEATS_H

#include <stdbool.h>
#include <stdint.h>

#include "klp_observer.h"

/* An entry that is held back, as it would be reported. */
struct held_entry {
	uint64_t clock, where;
	uint32_t cpu;
};

/* Reports an entry that was held back. */
typedef void (*report_held)(const struct held_entry *entry, uint64_t task);

/* Before each event of the kinds KLP_POINT and KLP_STORE: report what is held back. */
void repeats_end(report_held report);

/* A task enters a body: return whether that is held back, or left out. */
bool repeats_entry(struct klp_shared *shared, const struct held_entry *entry, uint64_t task,
		   report_held report);

/*
 * A task comes by a return: return whether it is left out; so is one that can end no call, after
 * as many as a stack has room for.
 */
bool repeats_return(struct klp_shared *shared, uint64_t where, uint64_t task, report_held report);

#endif
