// SPDX-License-Identifier: GPL-2.0-only
/*
 * checkpatch: ignore PREFER_KERNEL_TYPES: a library of user space
 */
#include <string.h>

#include "klp_insn.h"

size_t insn_bytes(const struct qemu_plugin_insn *insn, uint8_t bytes[LONGEST_INSN])
{
	size_t size = qemu_plugin_insn_size(insn);

	memset(bytes, 0, LONGEST_INSN);
#if PLUGIN_API < 3
	memcpy(bytes, qemu_plugin_insn_data(insn), size < LONGEST_INSN ? size : LONGEST_INSN);
#else
	qemu_plugin_insn_data(insn, bytes, LONGEST_INSN);
#endif
	return size;
}

/*
 * A nop of five bytes, a call into ftrace, or an int3 while ftrace changes the one to the other.
 * Before 5.13 the nop depends on the CPU: the second one is that of QEMU's.
 */
bool is_fentry(const uint8_t *bytes, size_t size)
{
	static const uint8_t nop[CALL_BYTES] = { 0x0f, 0x1f, 0x44, 0x00, 0x00 };
	static const uint8_t old_nop[CALL_BYTES] = { 0x66, 0x66, 0x66, 0x66, 0x90 };

	if (bytes[0] == 0xcc)
		return true;
	if (size != CALL_BYTES)
		return false;
	return bytes[0] == 0xe8 || !memcmp(bytes, nop, sizeof(nop)) ||
	       !memcmp(bytes, old_nop, sizeof(old_nop));
}

uint64_t call_target(const uint8_t *bytes, uint64_t address)
{
	int32_t distance;

	if (bytes[0] != 0xe8)
		return 0;
	memcpy(&distance, bytes + 1, sizeof(distance));
	return address + CALL_BYTES + distance;
}

bool is_return(const uint8_t *bytes, size_t size, uint64_t address, uint64_t return_thunk)
{
	int32_t distance;

	if (bytes[0] == 0xc3)
		return true;
	memcpy(&distance, bytes + 1, sizeof(distance));
	return size == CALL_BYTES && bytes[0] == 0xe9 &&
	       address + CALL_BYTES + distance == return_thunk;
}

bool is_interrupt_flag(const uint8_t *bytes, size_t size)
{
	return size == 1 && (bytes[0] == 0xfa || bytes[0] == 0xfb || bytes[0] == 0x9d);
}

bool is_special(const uint8_t *bytes, size_t size)
{
	static const uint8_t one[] = {
		0x8e, 0x9d, 0xca, 0xcb, 0xcc, 0xcd, 0xcf, 0xe4, 0xe5, 0xe6, 0xe7, 0xec, 0xed, 0xee,
		0xef, 0xf4, 0xfa, 0xfb,
	};
	static const uint8_t two[] = {
		0x00, 0x01, 0x05, 0x06, 0x07, 0x08, 0x09, 0x20, 0x21, 0x22, 0x23, 0x30, 0x32, 0x34,
		0x35, 0xa1, 0xa2, 0xa9, 0xae,
	};
	size_t at = 0;

	/* Prefixes: of the operand's size, rep, and REX. */
	while (at + 1 < size && (bytes[at] == 0x66 || bytes[at] == 0xf2 || bytes[at] == 0xf3 ||
				 (bytes[at] & 0xf0) == 0x40))
		at++;
	if (bytes[at] == 0x0f && at + 2 < size && bytes[at + 1] == 0xc7)
		return (bytes[at + 2] >> 3 & 7) >= 3 && (bytes[at + 2] >> 3 & 7) <= 5;
	if (bytes[at] == 0x0f && at + 1 < size)
		return memchr(two, bytes[at + 1], sizeof(two));
	return memchr(one, bytes[at], sizeof(one));
}
