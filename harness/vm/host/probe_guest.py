# SPDX-License-Identifier: GPL-2.0-only
"""The smallest guest that proves an accelerator: a flat multiboot image, assembled here by hand.

It does what a kernel does first: page tables, long mode, MSRs, CPUID, an exception, a timer
interrupt that ends a HLT. After each stage it writes a letter to QEMU's debug console, and it ends
QEMU through isa-debug-exit from the timer's handler, which only 64-bit code reaches.
"""

from __future__ import annotations

import struct

STAGES = {"P": "protected mode", "L": "long mode", "E": "an exception", "T": "a timer interrupt"}
"""The letters that the guest writes to the debug console, one a line, and what each means."""

DEBUG_PORT = 0xE9
EXIT_PORT = 0xF4
_EXIT_VALUE = 0x10
EXIT_CODE = _EXIT_VALUE << 1 | 1
"""QEMU's exit code when the guest reached its end: isa-debug-exit computes it from the value."""

LOAD_ADDRESS = 0x100000
_CODE_32 = LOAD_ADDRESS + 0x20
_CODE_64 = LOAD_ADDRESS + 0x80
_ON_INVALID_OPCODE = LOAD_ADDRESS + 0x100
_ON_TIMER = LOAD_ADDRESS + 0x120
_GDT = LOAD_ADDRESS + 0x140
_GDT_POINTER = LOAD_ADDRESS + 0x160
_IDT_POINTER = LOAD_ADDRESS + 0x170
_PML4 = LOAD_ADDRESS + 0x1000
_PDPT = LOAD_ADDRESS + 0x2000
_PAGE_DIRECTORY = LOAD_ADDRESS + 0x3000
_IDT = LOAD_ADDRESS + 0x4000
_STACK_TOP = LOAD_ADDRESS + 0x6000
_SIZE = _STACK_TOP - LOAD_ADDRESS

_INVALID_OPCODE_VECTOR = 6
_TIMER_VECTOR = 0x20
_GDT_ENTRIES = (0, 0x00AF9B000000FFFF, 0x00CF93000000FFFF)  # none, 64-bit code, data

Code = tuple[tuple[str, str], ...]
"""Instructions: the bytes in hexadecimal, and what they mean. A test disassembles and compares."""


def _le32(value: int) -> str:
    return struct.pack("<I", value).hex()


def _print(letter: str) -> Code:
    return (
        (f"b0 {ord(letter):02x}", f"mov al,{ord(letter):#x}"),
        ("e6 e9", "out 0xe9,al"),
        ("b0 0a", "mov al,0xa"),
        ("e6 e9", "out 0xe9,al"),
    )


def _out(port: int, value: int) -> Code:
    return (
        (f"b0 {value:02x}", f"mov al,{value:#x}"),
        (f"e6 {port:02x}", f"out {port:#x},al"),
    )


# Entered as the multiboot specification says: 32-bit protected mode, flat, no paging.
CODE_32: Code = (
    ("fa", "cli"),
    *_print("P"),
    (f"b8 {_le32(_PML4)}", f"mov eax,{_PML4:#x}"),
    ("0f 22 d8", "mov cr3,eax"),
    ("0f 20 e0", "mov eax,cr4"),
    ("83 c8 20", "or eax,0x20"),  # PAE
    ("0f 22 e0", "mov cr4,eax"),
    ("b9 80 00 00 c0", "mov ecx,0xc0000080"),  # MSR_EFER
    ("0f 32", "rdmsr"),
    ("0d 01 09 00 00", "or eax,0x901"),  # SCE, LME, NX
    ("0f 30", "wrmsr"),
    ("0f 20 c0", "mov eax,cr0"),
    ("0d 00 00 01 80", "or eax,0x80010000"),  # PG, WP
    ("0f 22 c0", "mov cr0,eax"),
    (f"0f 01 15 {_le32(_GDT_POINTER)}", f"lgdtd ds:{_GDT_POINTER:#x}"),
    (f"ea {_le32(_CODE_64)} 08 00", f"jmp 0x8:{_CODE_64:#x}"),
)

CODE_64: Code = (
    ("b8 10 00 00 00", "mov eax,0x10"),
    ("8e d0", "mov ss,eax"),
    (f"bc {_le32(_STACK_TOP)}", f"mov esp,{_STACK_TOP:#x}"),
    *_print("L"),
    (f"0f 01 1c 25 {_le32(_IDT_POINTER)}", f"lidt ds:{_IDT_POINTER:#x}"),
    ("b8 01 00 00 00", "mov eax,0x1"),
    ("0f a2", "cpuid"),
    ("b9 82 00 00 c0", "mov ecx,0xc0000082"),  # MSR_LSTAR
    ("31 c0", "xor eax,eax"),
    ("31 d2", "xor edx,edx"),
    ("0f 30", "wrmsr"),
    ("0f 0b", "ud2"),
    *_out(0x20, 0x11),  # first 8259: edge triggered, cascaded
    *_out(0x21, _TIMER_VECTOR),
    *_out(0x21, 0x04),
    *_out(0x21, 0x01),
    *_out(0x21, 0xFE),  # the timer alone
    *_out(0xA1, 0xFF),  # nothing from the second
    *_out(0x43, 0x34),  # 8254 counter 0: every millisecond
    *_out(0x40, 1193 & 0xFF),
    *_out(0x40, 1193 >> 8),
    ("fb", "sti"),
    ("f4", "hlt"),
    ("eb fd", "jmp -1"),
)

ON_INVALID_OPCODE: Code = (
    *_print("E"),
    ("48 83 04 24 02", "add QWORD PTR [rsp],0x2"),  # past the ud2
    ("48 cf", "iretq"),
)

ON_TIMER: Code = (
    *_print("T"),
    *_out(EXIT_PORT, _EXIT_VALUE),
    ("f4", "hlt"),
    ("eb fd", "jmp -1"),
)


def assemble(code: Code) -> bytes:
    """Return the machine code of a list of instructions."""
    return b"".join(bytes.fromhex(text) for text, _ in code)


def build_image() -> bytes:
    """Return the image for QEMU's -kernel: multiboot header, code, tables, stack."""
    image = bytearray(_SIZE)
    pieces = {
        LOAD_ADDRESS: _multiboot_header(),
        _CODE_32: assemble(CODE_32),
        _CODE_64: assemble(CODE_64),
        _ON_INVALID_OPCODE: assemble(ON_INVALID_OPCODE),
        _ON_TIMER: assemble(ON_TIMER),
        _GDT: struct.pack("<3Q", *_GDT_ENTRIES),
        _GDT_POINTER: struct.pack("<HI", 8 * len(_GDT_ENTRIES) - 1, _GDT),
        _IDT_POINTER: struct.pack("<HQ", 16 * (_TIMER_VECTOR + 1) - 1, _IDT),
        # The first 2 MiB, mapped to themselves; present and writable, the last one a large page.
        _PML4: struct.pack("<Q", _PDPT | 0x3),
        _PDPT: struct.pack("<Q", _PAGE_DIRECTORY | 0x3),
        _PAGE_DIRECTORY: struct.pack("<Q", 0x83),
        _IDT + 16 * _INVALID_OPCODE_VECTOR: _interrupt_gate(_ON_INVALID_OPCODE),
        _IDT + 16 * _TIMER_VECTOR: _interrupt_gate(_ON_TIMER),
    }
    ends = [*sorted(pieces)[1:], LOAD_ADDRESS + _SIZE]
    for address, end in zip(sorted(pieces), ends, strict=True):
        piece = pieces[address]
        if address + len(piece) > end:
            raise AssertionError(f"the piece at {address:#x} runs into the one at {end:#x}")
        offset = address - LOAD_ADDRESS
        image[offset : offset + len(piece)] = piece
    return bytes(image)


def _multiboot_header() -> bytes:
    """Return the Multiboot 0.6.96 header; with flag 16 it has the addresses of the image."""
    magic, flags = 0x1BADB002, 1 << 16
    checksum = -(magic + flags) & 0xFFFFFFFF
    end = LOAD_ADDRESS + _SIZE
    where = (LOAD_ADDRESS, LOAD_ADDRESS, end, end, _CODE_32)
    return struct.pack("<8I", magic, flags, checksum, *where)


def _interrupt_gate(handler: int) -> bytes:
    return struct.pack("<HHBBHII", handler & 0xFFFF, 0x08, 0, 0x8E, handler >> 16, 0, 0)
