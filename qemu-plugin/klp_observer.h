/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The file that the plugin and harness/observer/shared_file.py share. The harness writes the head
 * before QEMU starts; the counters and the events are the plugin's. Both map the file, so what QEMU
 * has written is there after a SIGKILL too.
 *
 * checkpatch: ignore PREFER_KERNEL_TYPES: a library of user space
 */
#ifndef KLP_OBSERVER_H
#define KLP_OBSERVER_H

#include <stdint.h>

#define KLP_MAGIC 0x3472767362706c6bULL	/* "klpbsvr4" */

enum klp_limit { KLP_RANGES = 1024, KLP_POINTS = 8192, KLP_CPUS = 64, KLP_FUNCTIONS = 4096,
		 KLP_HOOKS = 4 };

enum klp_flag {
	KLP_CLOCK = 1,		/* count the instructions of all CPUs */
	KLP_MODULE_CALLS = 2,	/* bodies of functions in modules, and returns */
	KLP_BY_CALLBACK = 4,	/* no inline operations, as with version 2 of the API */
	KLP_MODULE_ENTRIES = 8,	/* with the calls: the fentry of functions in modules as well */
	KLP_SWITCHES = 16,	/* a context switch is an event */
	KLP_ACCESSES = 32,	/* note which memory is read and written (klp_accesses.h) */
	KLP_CPU_BY_GS = 64,	/* QEMU names the wrong CPU (klp_cpu.h) */
};

enum klp_kind {
	KLP_POINT = 1,		/* the instruction ran; begins a period (klp_repeats.h) */
	KLP_STORE,		/* it stored, data is the address; begins a period */
	KLP_SWITCH,		/* of __switch_to_asm(): who is current; data: who is next */
	KLP_BODY,		/* the instruction behind the fentry of a function */
	KLP_RETURN,		/* a return in a module, or a point of this kind */
	KLP_ENTRY,		/* the fentry of a function in a module */
	KLP_INTERRUPT,		/* no event: from here on the CPU is in an interrupt */
	KLP_INTERRUPT_END,	/* no event: not any more */
	KLP_MEETS_ALL,		/* no event: noted as a write of KLP_WORD_ALL */
	KLP_IPI,		/* no event: noted as a read of KLP_WORD_INTERRUPTS */
	KLP_FLAG,		/* cli, sti, popf: noted as a write of KLP_WORD_INTERRUPTS */
	KLP_PASSAGE,		/* CPU 0 was here, and accesses are noted; data: how many */
};

/* An address range with a counter for each byte; the one of start has the number first. */
struct klp_range {
	uint64_t start, end, first;
};

struct klp_point {
	uint64_t address, kind;
};

/*
 * What is known of the text from start on: it is of the function with that body, and the task that
 * enters it leaves it by a return, which is reported; with KLP_IS_LEFT unset, perhaps not. Text
 * with body 0 is of a function whose entries are not reported.
 */
struct klp_function {
	uint64_t start, end, body, flags;
};

enum klp_function_flag { KLP_IS_LEFT = 1 };

struct klp_event {
	uint64_t clock;		/* instructions that all CPUs have executed before this one */
	uint64_t task;		/* task_struct of current; 0: not known yet */
	uint64_t data;
	uint32_t where;		/* low half of the instruction's address; the rest is ones */
	uint16_t cpu, kind;	/* kind 0: QEMU was killed while it wrote the event */
};

/* An access: the address of eight bytes, divided by 8, in the low bits, and more in the others. */
#define KLP_WORD_ALL 0			/* no memory: what all CPUs have to do with */
#define KLP_WORD_INTERRUPTS 1		/* neither: whether a CPU takes interrupts */
#define KLP_ACCESS_STORE 0x200000000000ULL
#define KLP_ACCESS_CPU 0x400000000000ULL
#define KLP_ACCESS_PHASE 0x800000000000ULL
#define KLP_PHASES 0x20000

struct klp_shared {
	uint64_t magic, bytes;			/* bytes of this structure */
	uint64_t flags, n_ranges, n_points;
	uint64_t counters_at, events_at;	/* offsets in the file */
	uint64_t n_counters, events_max;
	uint64_t module_start, module_end;	/* where modules are */
	uint64_t return_thunk;			/* a jump to it is a return; 0: there is none */
	/*
	 * The harness fills the table of functions that is not in force, which is
	 * functions[(table + 1) % 2], and adds 1 to table.
	 */
	uint64_t table, n_functions[2];
	uint64_t hooks[KLP_HOOKS];		/* what an fentry calls in the image; 0: any text */
	uint64_t accesses_at, accesses_max;
	uint64_t phase;				/* 0: note no accesses; the harness changes it */
	/* Written by the plugin. */
	uint64_t n_events;			/* all, those too for which there was no room */
	uint64_t n_repeated;			/* entries left out, that repeat a reported one */
	uint64_t n_accesses;			/* all, those too for which there was no room */
	uint64_t clock;
	uint64_t current[KLP_CPUS];
	uint64_t cpu_base[KLP_CPUS];		/* with KLP_CPU_BY_GS; 0: no further CPU */
	/* All sorted by address. */
	struct klp_range ranges[KLP_RANGES];
	struct klp_point points[KLP_POINTS];
	struct klp_function functions[2][KLP_FUNCTIONS];
};

#endif
