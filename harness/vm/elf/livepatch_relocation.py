# SPDX-License-Identifier: GPL-2.0-only
"""Makes ordinary relocations of a module livepatch relocations, as the distributions' tools do.

Documentation/livepatch/module-elf-format.rst: the section is named
``.klp.rela.OBJECT.SECTION`` and flagged SHF_RELA_LIVEPATCH, its symbols are named
``.klp.sym.OBJECT.SYMBOL,SYMPOS`` and have the section index SHN_LIVEPATCH.
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from typing import Any

from elftools.elf.elffile import ELFFile

from harness.vm.elf.module_info import SHN_LIVEPATCH

# include/uapi/linux/elf.h
_SHF_ALLOC = 0x2
_SHF_RELA_LIVEPATCH = 0x00100000
# Offsets in Elf64_Shdr and Elf64_Sym.
_FLAGS, _OFFSET, _SHNDX = 8, 24, 6


@dataclass(frozen=True, kw_only=True)
class LivepatchRelocation:
    """All relocations of ``section`` are of ``symbol``, which stands for another object's.

    The section is applied with ``object``; the symbol is one of ``symbol_object``, by default of
    the same object.
    """

    section: str
    symbol: str
    object: str
    stands_for: str
    sympos: int = 0
    symbol_object: str | None = None


def with_livepatch_relocation(module: bytes, wanted: LivepatchRelocation) -> bytes:
    """Return the module (ELF64, little endian) with that relocation left to livepatch.

    Raises ValueError when it has no such section or symbol.
    """
    elf = ELFFile(io.BytesIO(module))
    data = bytearray(module)
    number = elf.get_section_index(f".rela{wanted.section}")
    if number is None:
        raise ValueError(f"the module has no section .rela{wanted.section}")
    section = elf.get_section(number)
    table: Any = elf.get_section(section["sh_link"])
    symbols = [symbol.name for symbol in table.iter_symbols()]
    if wanted.symbol not in symbols:
        raise ValueError(f"the module has no symbol {wanted.symbol}")

    header = _header(elf, number)
    name = f".klp.rela.{wanted.object}{wanted.section}"
    struct.pack_into("<I", data, header, _add_string(data, elf, elf["e_shstrndx"], name))
    flags = section["sh_flags"] | _SHF_ALLOC | _SHF_RELA_LIVEPATCH
    struct.pack_into("<Q", data, header + _FLAGS, flags)

    symbol = table["sh_offset"] + symbols.index(wanted.symbol) * table["sh_entsize"]
    name = f".klp.sym.{wanted.symbol_object or wanted.object}.{wanted.stands_for},{wanted.sympos}"
    struct.pack_into("<I", data, symbol, _add_string(data, elf, table["sh_link"], name))
    struct.pack_into("<H", data, symbol + _SHNDX, SHN_LIVEPATCH)
    return bytes(data)


def _header(elf: ELFFile, number: int) -> int:
    return int(elf["e_shoff"] + number * elf["e_shentsize"])


def _add_string(data: bytearray, elf: ELFFile, number: int, text: str) -> int:
    """Copy a string table to the end of the file, add a string, and return its offset there."""
    header = _header(elf, number) + _OFFSET
    offset, size = struct.unpack_from("<QQ", data, header)
    strings = data[offset : offset + size]
    struct.pack_into("<QQ", data, header, len(data), size + len(text) + 1)
    data += strings + text.encode() + b"\0"
    return int(size)
