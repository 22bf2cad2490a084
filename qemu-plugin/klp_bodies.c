// SPDX-License-Identifier: GPL-2.0-only
/*
 * An open hash set.
 *
 * checkpatch: ignore PREFER_KERNEL_TYPES: a library of user space
 */
#include "klp_bodies.h"

enum { BODIES = 1 << 16, MOST_PROBES = 64 };

static uint64_t bodies[BODIES];

bool body_known(uint64_t address, bool add)
{
	uint64_t slot = (address * 0x9e3779b97f4a7c15ULL) >> 48;

	for (int i = 0; i < MOST_PROBES; i++, slot = (slot + 1) % BODIES) {
		if (bodies[slot] == address)
			return true;
		if (!bodies[slot]) {
			if (add)
				bodies[slot] = address;
			return add;
		}
	}
	return false;
}
