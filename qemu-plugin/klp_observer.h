/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The file that the plugin and harness/observer/ring.py share. The harness writes the head before
 * QEMU starts; the counters and the events are the plugin's. Both map the file, so what QEMU has
 * written is there after a SIGKILL too.
 *
 * checkpatch: ignore PREFER_KERNEL_TYPES: a library of user space
 */
#ifndef KLP_OBSERVER_H
#define KLP_OBSERVER_H

#include <stdint.h>

#define KLP_MAGIC 0x3172767362706c6bULL	/* "klpbsvr1" */

enum klp_limit { KLP_RANGES = 1024, KLP_POINTS = 8192, KLP_CPUS = 64 };

enum klp_flag {
	KLP_CLOCK = 1,		/* count the instructions of all CPUs */
	KLP_MODULE_CALLS = 2,	/* bodies of functions in modules, and returns */
	KLP_BY_CALLBACK = 4,	/* no inline operations, as with version 2 of the API */
	KLP_MODULE_ENTRIES = 8,	/* with the calls: the fentry of functions in modules as well */
	KLP_SWITCHES = 16,	/* a context switch is an event */
};

enum klp_kind {
	KLP_POINT = 1,		/* the instruction ran */
	KLP_STORE,		/* the instruction stored; data is the address */
	KLP_SWITCH,		/* of __switch_to_asm(): who is current; data: who is next */
	KLP_BODY,		/* the instruction behind the fentry of a function */
	KLP_RETURN,		/* a return in a module, or a point of this kind */
	KLP_ENTRY,		/* the fentry of a function in a module */
};

/* An address range with a counter for each byte; the one of start has the number first. */
struct klp_range {
	uint64_t start, end, first;
};

struct klp_point {
	uint64_t address, kind;
};

struct klp_event {
	uint64_t clock;		/* instructions that all CPUs have executed before this one */
	uint64_t where;		/* the address of the instruction */
	uint64_t task;		/* task_struct of current; 0: not known yet */
	uint64_t data;
	uint32_t cpu, kind;	/* kind 0: QEMU was killed while it wrote the event */
};

struct klp_shared {
	uint64_t magic, bytes;			/* bytes of this structure */
	uint64_t flags, n_ranges, n_points;
	uint64_t counters_at, events_at;	/* offsets in the file */
	uint64_t n_counters, events_max;
	uint64_t module_start, module_end;	/* where modules are */
	uint64_t return_thunk;			/* a jump to it is a return; 0: there is none */
	/* Written by the plugin. */
	uint64_t n_events;			/* all, those for which there was no room as well */
	uint64_t clock;
	uint64_t current[KLP_CPUS];
	/* Both sorted by address. */
	struct klp_range ranges[KLP_RANGES];
	struct klp_point points[KLP_POINTS];
};

#endif
