// SPDX-License-Identifier: GPL-2.0-only
/*
 * checkpatch: ignore PREFER_KERNEL_TYPES: a library of user space
 */
#include "klp_accesses.h"
#include "klp_cpu.h"

enum { KNOWN_BITS = 18 };

static struct klp_shared *shared;
static uint64_t *accesses;
static bool interrupted[KLP_CPUS];
/* What was noted last, by hash: most of what repeats is found here. */
static uint64_t known[1 << KNOWN_BITS];

void accesses_init(struct klp_shared *file, uint64_t *room)
{
	shared = file;
	accesses = room;
}

void accesses_interrupt(unsigned int cpu, bool begins)
{
	interrupted[cpu % KLP_CPUS] = begins;
}

uint64_t accesses_next_phase(void)
{
	shared->phase = shared->phase % (KLP_PHASES - 1) + 1;
	return shared->n_accesses;
}

static void note(uint64_t word, uint64_t phase, unsigned int cpu, bool store)
{
	uint64_t access = (word & (KLP_ACCESS_STORE - 1)) | phase * KLP_ACCESS_PHASE |
			  (store ? KLP_ACCESS_STORE : 0) | (cpu ? KLP_ACCESS_CPU : 0);
	uint64_t *slot = &known[access * 0x9e3779b97f4a7c15ULL >> (64 - KNOWN_BITS)];
	uint64_t number;

	if (*slot == access)
		return;
	*slot = access;
	number = __atomic_fetch_add(&shared->n_accesses, 1, __ATOMIC_RELAXED);
	if (number < shared->accesses_max)
		accesses[number] = access;
}

static void on_access(unsigned int cpu, uint32_t info, uint64_t vaddr, void *data)
{
	uint64_t phase = __atomic_load_n(&shared->phase, __ATOMIC_RELAXED);
	uint64_t last = vaddr + (1ULL << qemu_plugin_mem_size_shift(info)) - 1;
	bool store = qemu_plugin_mem_is_store(info);

	(void)data;
	if (!phase)
		return;
	cpu = cpu_now(cpu);
	if (cpu > 1 || interrupted[cpu] || !(vaddr >> 63))
		return;
	for (uint64_t word = vaddr / 8; word <= last / 8; word++)
		note(word, phase, cpu, store);
}

void accesses_note(unsigned int cpu, uint64_t kind)
{
	uint64_t word = kind == KLP_MEETS_ALL ? KLP_WORD_ALL : KLP_WORD_INTERRUPTS;

	if (shared->phase && cpu <= 1 && !interrupted[cpu])
		note(word, shared->phase, cpu, kind != KLP_IPI);
}

void accesses_of(struct qemu_plugin_insn *insn)
{
	qemu_plugin_register_vcpu_mem_cb(insn, on_access, cpu_cb_flags(),
					 QEMU_PLUGIN_MEM_RW, NULL);
}
