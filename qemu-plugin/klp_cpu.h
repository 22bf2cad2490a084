/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Which CPU of the guest runs. QEMU says it to each callback; but from 10.0 on it says for which
 * CPU the block was translated, whichever runs it, when all CPUs take turns on one thread
 * (gen_cpu_index() in accel/tcg/plugin-gen.c). With KLP_CPU_BY_GS the kernel's own answer is taken
 * instead: GS has the base of the CPU's variables. Registers can be read from version 2 of the
 * interface on.
 *
 * checkpatch: ignore PREFER_KERNEL_TYPES: a library of user space
 */
#ifndef KLP_CPU_H
#define KLP_CPU_H

#include "klp_observer.h"
#include "qemu_plugin_api.h"

/* Returns whether this version of the interface can do what the file's flags ask for. */
bool cpu_init(uint64_t id, struct klp_shared *file);

/* With what flags a callback is registered that asks for the CPU. */
enum qemu_plugin_cb_flags cpu_cb_flags(void);

/* The CPU's number: the one said by QEMU, or its place in cpu_base of the file. */
unsigned int cpu_now(unsigned int said);

#endif
