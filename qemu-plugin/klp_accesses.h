/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Which memory the kernel reads and writes in each phase of a trial: each word of eight bytes once,
 * by CPU. What interrupts do is left out, and so is user space.
 *
 * checkpatch: ignore PREFER_KERNEL_TYPES: a library of user space
 */
#ifndef KLP_ACCESSES_H
#define KLP_ACCESSES_H

#include "klp_observer.h"
#include "qemu_plugin_api.h"

/* Begins with a file; @accesses: where in it there is room. */
void accesses_init(struct klp_shared *shared, uint64_t *accesses);

/* An instruction of the kernel: note what it reads and writes. */
void accesses_of(struct qemu_plugin_insn *insn);

/* Note what is no memory: an instruction of the kind KLP_MEETS_ALL, KLP_IPI or KLP_FLAG. */
void accesses_note(unsigned int cpu, uint64_t kind);

/* A phase ends, and the next one begins: return how many accesses were noted before. */
uint64_t accesses_next_phase(void);

/* A CPU begins with an interrupt, or ends what may be one. */
void accesses_interrupt(unsigned int cpu, bool begins);

#endif
