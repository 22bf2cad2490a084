/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Where functions of modules go on behind their fentry.
 *
 * checkpatch: ignore PREFER_KERNEL_TYPES: a library of user space
 */
#ifndef KLP_BODIES_H
#define KLP_BODIES_H

#include <stdbool.h>
#include <stdint.h>

/* Whether a body begins there, as far as is known; with add, it is known from now on. */
bool body_known(uint64_t address, bool add);

#endif
