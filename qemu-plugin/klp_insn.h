/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What an instruction of x86 is, by its bytes.
 *
 * checkpatch: ignore PREFER_KERNEL_TYPES: a library of user space
 */
#ifndef KLP_INSN_H
#define KLP_INSN_H

#include <stdbool.h>
#include <stdint.h>

#include "qemu_plugin_api.h"

/* The longest one, and a call or a jump with a distance of four bytes. */
enum { LONGEST_INSN = 16, CALL_BYTES = 5 };

/* Copies the bytes of an instruction, with zeros behind them; returns its size. */
size_t insn_bytes(const struct qemu_plugin_insn *insn, uint8_t bytes[LONGEST_INSN]);

/* Whether it is what the compiler has put at the beginning of a function for ftrace. */
bool is_fentry(const uint8_t *bytes, size_t size);

/* Where it calls; 0 for what is no direct call. */
uint64_t call_target(const uint8_t *bytes, uint64_t address);

/* Whether it is a return, or a jump to the thunk that returns, if there is one. */
bool is_return(const uint8_t *bytes, size_t size, uint64_t address, uint64_t return_thunk);

/*
 * Whether QEMU executes it by a function of its own, with the end of the block behind it: of
 * system registers, segments, ports, the FPU's state (0f ae, 0f c7 /3 to /5) and returns from
 * interrupts. No memory that counts is accessed.
 */
bool is_special(const uint8_t *bytes, size_t size);

/* Whether it is a cli, sti or popf. */
bool is_interrupt_flag(const uint8_t *bytes, size_t size);

#endif
