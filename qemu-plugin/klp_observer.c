// SPDX-License-Identifier: GPL-2.0-only
/*
 * A TCG plugin of QEMU that observes an unmodified kernel: how often each instruction of given
 * address ranges runs, and in which order tasks come by given instructions. What to observe is in
 * a file that it shares with the harness: see klp_observer.h.
 *
 * checkpatch: ignore PREFER_KERNEL_TYPES: a library of user space
 * checkpatch: ignore AVOID_EXTERNS: no header declares the entry, which QEMU looks up by its name
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "klp_accesses.h"
#include "klp_bodies.h"
#include "klp_cpu.h"
#include "klp_insn.h"
#include "klp_observer.h"
#include "klp_repeats.h"
#include "qemu_plugin_api.h"

#define IMAGE 0xffffffff80000000ULL
#define EXPORT __attribute__((visibility("default")))

EXPORT int qemu_plugin_version = PLUGIN_API;
EXPORT int qemu_plugin_install(uint64_t id, const void *info, int argc, char **argv);

/* What a callback has to know. Never freed: there is one for each translated instruction. */
struct site {
	uint64_t address, kind;
	uint64_t ahead;		/* instructions that the clock has counted before they ran */
	int32_t displacement;
};

static struct klp_shared *shared;
static uint64_t *counters;
static struct klp_event *events;

static void report(const struct held_entry *at, uint64_t task, uint64_t data, uint64_t kind)
{
	uint64_t number = __atomic_fetch_add(&shared->n_events, 1, __ATOMIC_RELAXED);
	struct klp_event *event;

	if (number >= shared->events_max)
		return;
	event = &events[number];
	event->clock = at->clock;
	event->where = (uint32_t)at->where;
	event->task = task;
	event->data = data;
	event->cpu = at->cpu;
	/* The last field: a reader takes an event of kind 0 for one that was not finished. */
	__atomic_store_n(&event->kind, (uint16_t)kind, __ATOMIC_RELEASE);
}

static void report_entry(const struct held_entry *entry, uint64_t task)
{
	report(entry, task, 0, KLP_BODY);
}

static void reach(unsigned int cpu, const struct site *site, uint64_t data)
{
	const struct held_entry at = { shared->clock - site->ahead, site->address, cpu };
	uint64_t task = shared->current[cpu % KLP_CPUS];

	switch (site->kind) {
	case KLP_INTERRUPT:
	case KLP_INTERRUPT_END:
		accesses_interrupt(cpu, site->kind == KLP_INTERRUPT);
		return;
	case KLP_MEETS_ALL:
	case KLP_IPI:
	case KLP_FLAG:
		accesses_note(cpu, site->kind);
		return;
	case KLP_PASSAGE:
		if (!cpu && shared->phase)
			report(&at, task, accesses_next_phase(), site->kind);
		return;
	case KLP_BODY:
		if (repeats_entry(shared, &at, task, report_entry))
			return;
		break;
	case KLP_RETURN:
		if (repeats_return(shared, at.where, task, report_entry))
			return;
		break;
	default:
		repeats_end(report_entry);
	}
	report(&at, task, data, site->kind);
}

static void on_exec(unsigned int cpu, void *site)
{
	reach(cpu_now(cpu), site, 0);
}

static void on_store(unsigned int cpu, uint32_t info, uint64_t vaddr, void *site)
{
	if (qemu_plugin_mem_is_store(info))
		reach(cpu_now(cpu), site, vaddr);
}

/* The address that the stack pointer is loaded from is a member of the next task's task_struct. */
static void on_switch(unsigned int cpu, uint32_t info, uint64_t vaddr, void *data)
{
	const struct site *site = data;
	uint64_t next = vaddr - site->displacement;

	if (qemu_plugin_mem_is_store(info))
		return;
	cpu = cpu_now(cpu);
	accesses_interrupt(cpu, false);
	if (shared->flags & KLP_SWITCHES)
		reach(cpu, site, next);
	shared->current[cpu % KLP_CPUS] = next;
}

static void on_count(unsigned int cpu, void *counter)
{
	(void)cpu;
	__atomic_fetch_add((uint64_t *)counter, 1, __ATOMIC_RELAXED);
}

static void on_clock(unsigned int cpu, void *instructions)
{
	(void)cpu;
	__atomic_fetch_add(&shared->clock, (uintptr_t)instructions, __ATOMIC_RELAXED);
}

/* The range that an address is in. */
static const struct klp_range *range_of(uint64_t address)
{
	size_t low = 0, high = shared->n_ranges;

	while (low < high) {
		size_t middle = (low + high) / 2;

		if (address >= shared->ranges[middle].end)
			low = middle + 1;
		else
			high = middle;
	}
	if (low == shared->n_ranges || address < shared->ranges[low].start)
		return NULL;
	return &shared->ranges[low];
}

/* Whether a range shares an address with this one. */
static bool range_meets(uint64_t start, uint64_t end)
{
	for (size_t i = 0; i < shared->n_ranges; i++)
		if (start < shared->ranges[i].end && end > shared->ranges[i].start)
			return true;
	return false;
}

/* The first point at that address or behind it. */
static const struct klp_point *point_from(uint64_t address)
{
	size_t low = 0, high = shared->n_points;

	while (low < high) {
		size_t middle = (low + high) / 2;

		if (shared->points[middle].address < address)
			low = middle + 1;
		else
			high = middle;
	}
	return &shared->points[low];
}

static struct site *new_site(uint64_t address, uint64_t kind, uint64_t ahead)
{
	struct site *site = calloc(1, sizeof(*site));

	if (!site)
		abort();
	site->address = address;
	site->kind = kind;
	site->ahead = shared->flags & KLP_CLOCK ? ahead : 0;
	return site;
}

#if PLUGIN_API < 2
static bool inline_works(void)
{
	return !(shared->flags & KLP_BY_CALLBACK);
}
#endif

static void count(struct qemu_plugin_insn *insn, uint64_t *counter)
{
#if PLUGIN_API < 2
	if (inline_works()) {
		qemu_plugin_register_vcpu_insn_exec_inline(insn, QEMU_PLUGIN_INLINE_ADD_U64,
							   counter, 1);
		return;
	}
#endif
	qemu_plugin_register_vcpu_insn_exec_cb(insn, on_count, QEMU_PLUGIN_CB_NO_REGS, counter);
}

/* The clock goes on by all instructions of a block when the block begins. */
static void tick(struct qemu_plugin_tb *tb, size_t instructions)
{
#if PLUGIN_API < 2
	if (inline_works()) {
		qemu_plugin_register_vcpu_tb_exec_inline(tb, QEMU_PLUGIN_INLINE_ADD_U64,
							 &shared->clock, instructions);
		return;
	}
#endif
	qemu_plugin_register_vcpu_tb_exec_cb(tb, on_clock, QEMU_PLUGIN_CB_NO_REGS,
					     (void *)instructions);
}

/*
 * Accesses of both kinds are asked for: QEMU 7.2 gives who asks for reads the stores alone
 * (op_rw() in accel/tcg/plugin-gen.c).
 */
static void watch(struct qemu_plugin_insn *insn, const struct klp_point *point, uint64_t ahead)
{
	struct site *site = new_site(point->address, point->kind, ahead);
	uint8_t bytes[LONGEST_INSN];

	switch (point->kind) {
	case KLP_SWITCH:
		insn_bytes(insn, bytes);
		memcpy(&site->displacement, bytes + 3, sizeof(site->displacement));
		qemu_plugin_register_vcpu_mem_cb(insn, on_switch, cpu_cb_flags(),
						 QEMU_PLUGIN_MEM_RW, site);
		break;
	case KLP_STORE:
		qemu_plugin_register_vcpu_mem_cb(insn, on_store, cpu_cb_flags(),
						 QEMU_PLUGIN_MEM_RW, site);
		break;
	default:
		qemu_plugin_register_vcpu_insn_exec_cb(insn, on_exec, cpu_cb_flags(), site);
	}
}

/* Of the image, a function's first instruction calls ftrace and nothing else. */
static bool may_be_hook(const uint8_t *bytes, uint64_t address)
{
	uint64_t target = call_target(bytes, address);

	if (target < IMAGE || target >= shared->module_start || !shared->hooks[0])
		return true;
	for (int i = 0; i < KLP_HOOKS; i++)
		if (shared->hooks[i] == target)
			return true;
	return false;
}

static void watch_at(struct qemu_plugin_insn *insn, uint64_t address, uint64_t kind, uint64_t ahead)
{
	qemu_plugin_register_vcpu_insn_exec_cb(insn, on_exec, cpu_cb_flags(),
					       new_site(address, kind, ahead));
}

/*
 * What follows a call may be taken for a body, where that call is the first instruction of a block.
 * It may be a return, as may be the whole of a body: then both are reported.
 */
static void watch_module(struct qemu_plugin_insn *insn, uint64_t address, bool may_enter,
			 uint64_t ahead)
{
	uint8_t bytes[LONGEST_INSN];
	size_t size = insn_bytes(insn, bytes);

	if (body_known(address, false)) {
		watch_at(insn, address, KLP_BODY, ahead);
	} else if (may_enter && is_fentry(bytes, size) && may_be_hook(bytes, address)) {
		body_known(address + CALL_BYTES, true);
		if (shared->flags & KLP_MODULE_ENTRIES)
			watch_at(insn, address, KLP_ENTRY, ahead);
	}
	if (is_return(bytes, size, address, shared->return_thunk))
		watch_at(insn, address, KLP_RETURN, ahead);
}

/*
 * Behind an instruction that ends a block by a function of its own, QEMU 7.2 keeps where its
 * callbacks are, and uses that in the next interrupt, though gdb has had them freed meanwhile
 * (plugin_gen_disable_mem_helpers() in accel/tcg/plugin-gen.c; mended in 8.1).
 */
static void note_accesses(struct qemu_plugin_insn *insn, uint64_t address)
{
	uint8_t bytes[LONGEST_INSN];
	size_t size = insn_bytes(insn, bytes);

	if (!is_special(bytes, size))
		accesses_of(insn);
	if (is_interrupt_flag(bytes, size))
		watch_at(insn, address, KLP_FLAG, 0);
}

static void on_block(uint64_t id, struct qemu_plugin_tb *tb)
{
	const struct klp_point *last = shared->points + shared->n_points;
	size_t instructions = qemu_plugin_tb_n_insns(tb);
	uint64_t start = qemu_plugin_tb_vaddr(tb);
	uint64_t end = start + LONGEST_INSN * instructions;
	const struct klp_point *point = point_from(start);
	bool has_points = point < last && point->address < end;
	bool in_module = shared->flags & KLP_MODULE_CALLS && start >= shared->module_start &&
			 start < shared->module_end;
	bool counted = range_meets(start, end);
	bool noted = shared->flags & KLP_ACCESSES && start >> 63;

	(void)id;
	if (shared->flags & KLP_CLOCK)
		tick(tb, instructions);
	if (!has_points && !in_module && !counted && !noted)
		return;
	for (size_t i = 0; i < instructions; i++) {
		struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);
		uint64_t address = qemu_plugin_insn_vaddr(insn);
		const struct klp_range *range = counted ? range_of(address) : NULL;
		/* A function may begin with an endbr64 of four bytes. */
		bool may_enter = i == 0 || (i == 1 && address == start + 4);

		if (noted)
			note_accesses(insn, address);
		if (range)
			count(insn, &counters[range->first + address - range->start]);
		point = point_from(address);
		for (; point < last && point->address == address; point++)
			watch(insn, point, instructions - i);
		if (in_module)
			watch_module(insn, address, may_enter, instructions - i);
	}
}

static bool fits(uint64_t file_bytes)
{
	uint64_t counters_end, events_end, accesses_end;

	if (file_bytes < sizeof(*shared) || shared->magic != KLP_MAGIC ||
	    shared->bytes != sizeof(*shared) || shared->n_ranges > KLP_RANGES ||
	    shared->n_points > KLP_POINTS)
		return false;
	if (shared->n_counters > file_bytes || shared->events_max > file_bytes ||
	    shared->accesses_max > file_bytes)
		return false;
	counters_end = shared->counters_at + shared->n_counters * sizeof(*counters);
	events_end = shared->events_at + shared->events_max * sizeof(*events);
	accesses_end = shared->accesses_at + shared->accesses_max * sizeof(uint64_t);
	return counters_end <= file_bytes && events_end <= file_bytes && accesses_end <= file_bytes;
}

static int fail(const char *what)
{
	fprintf(stderr, "klp_observer: %s\n", what);
	return -1;
}

/* probe=on: say that this QEMU takes the plugin, and let QEMU end. */
EXPORT int qemu_plugin_install(uint64_t id, const void *info, int argc, char **argv)
{
	struct stat status;
	int fd;

	(void)info;
	if (argc == 1 && !strcmp(argv[0], "probe=on")) {
		printf("klp_observer: version %d is accepted\n", PLUGIN_API);
		fflush(stdout);
		return -1;
	}
	if (argc != 1 || strncmp(argv[0], "shared=", 7))
		return fail("takes shared=FILE");
	fd = open(argv[0] + 7, O_RDWR | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &status)) {
		perror("klp_observer: the shared file cannot be opened");
		return -1;
	}
	shared = mmap(NULL, status.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (shared == MAP_FAILED)
		return fail("the shared file cannot be mapped");
	if (!fits(status.st_size))
		return fail("the shared file is not one of this version");
	counters = (void *)shared + shared->counters_at;
	events = (void *)shared + shared->events_at;
	accesses_init(shared, (void *)shared + shared->accesses_at);
	if (!cpu_init(id, shared))
		return fail("this version of QEMU's interface reads no registers");
	qemu_plugin_register_vcpu_tb_trans_cb(id, on_block);
	return 0;
}
