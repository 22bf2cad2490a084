// SPDX-License-Identifier: GPL-2.0-only
/*
 * checkpatch: ignore PREFER_KERNEL_TYPES: a library of user space
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "klp_cpu.h"

static struct klp_shared *shared;

#if PLUGIN_API < 2
bool cpu_init(uint64_t id, struct klp_shared *file)
{
	(void)id;
	shared = file;
	return !(shared->flags & KLP_CPU_BY_GS);
}

enum qemu_plugin_cb_flags cpu_cb_flags(void)
{
	return QEMU_PLUGIN_CB_NO_REGS;
}

unsigned int cpu_now(unsigned int said)
{
	return said;
}
#else
static struct qemu_plugin_register *gs_base;
static struct byte_array *value;

/* Registers can be looked for when there is a CPU; they are the same on each. */
static void find_register(uint64_t id, unsigned int cpu)
{
	struct register_array *all;

	(void)id;
	(void)cpu;
	if (gs_base)
		return;
	all = qemu_plugin_get_registers();
	for (unsigned int i = 0; i < all->n; i++)
		if (!strcmp(all->registers[i].name, "gs_base"))
			gs_base = all->registers[i].handle;
	if (!gs_base) {
		fprintf(stderr, "klp_observer: QEMU names no register gs_base\n");
		abort();
	}
	value = g_byte_array_new();
}

bool cpu_init(uint64_t id, struct klp_shared *file)
{
	shared = file;
	if (shared->flags & KLP_CPU_BY_GS)
		qemu_plugin_register_vcpu_init_cb(id, find_register);
	return true;
}

enum qemu_plugin_cb_flags cpu_cb_flags(void)
{
	return shared->flags & KLP_CPU_BY_GS ? QEMU_PLUGIN_CB_R_REGS : QEMU_PLUGIN_CB_NO_REGS;
}

unsigned int cpu_now(unsigned int said)
{
	uint64_t base;

	if (!(shared->flags & KLP_CPU_BY_GS))
		return said;
	value->n = 0;
	qemu_plugin_read_register(gs_base, value);
	if (value->n != sizeof(base)) {
		fprintf(stderr, "klp_observer: QEMU does not read gs_base\n");
		abort();
	}
	memcpy(&base, value->data, sizeof(base));
	for (unsigned int i = 0; i < KLP_CPUS; i++) {
		if (!shared->cpu_base[i])
			shared->cpu_base[i] = base;
		if (shared->cpu_base[i] == base)
			return i;
	}
	fprintf(stderr, "klp_observer: the guest has more than %d CPUs\n", KLP_CPUS);
	abort();
}
#endif
