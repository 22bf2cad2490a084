# SPDX-License-Identifier: GPL-2.0-only
"""Makes a livepatch relocation of an ordinary one, as the tools of distributions do.

Documentation/livepatch/module-elf-format.rst: the section is named
``.klp.rela.OBJECT.SECTION`` and flagged SHF_RELA_LIVEPATCH, its symbols are named
``.klp.sym.OBJECT.SYMBOL,SYMPOS`` and have the section index SHN_LIVEPATCH.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

# include/uapi/linux/elf.h
_SHF_ALLOC = 0x2
_SHF_RELA_LIVEPATCH = 0x00100000
_SHN_LIVEPATCH = 0xFF20

_SHOFF_AT, _SHSTRNDX_AT = 40, 62
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_NAME, _FLAGS, _OFFSET, _SIZE, _LINK = 0, 2, 4, 5, 6


@dataclass(frozen=True, kw_only=True)
class LivepatchRelocation:
    """All relocations of ``section`` are of ``symbol``, which stands for another object's."""

    section: str
    symbol: str
    object: str
    stands_for: str
    sympos: int = 0


def with_livepatch_relocation(module: bytes, wanted: LivepatchRelocation) -> bytes:
    """Return the module (ELF64, little endian) with that relocation left to livepatch.

    Raises ValueError when it has no such section or symbol.
    """
    return _Elf(module).rename(wanted)


class _Elf:
    def __init__(self, data: bytes) -> None:
        self._data = bytearray(data)
        (self._shoff,) = struct.unpack_from("<Q", data, _SHOFF_AT)
        _, count, self._shstrndx = struct.unpack_from("<HHH", data, _SHSTRNDX_AT - 4)
        self._sections = [
            list(_SECTION.unpack_from(data, self._shoff + number * _SECTION.size))
            for number in range(count)
        ]

    def rename(self, wanted: LivepatchRelocation) -> bytes:
        names = self._sections[self._shstrndx]
        section = self._section(f".rela{wanted.section}")
        section[_NAME] = self._append(names, f".klp.rela.{wanted.object}{wanted.section}")
        section[_FLAGS] |= _SHF_ALLOC | _SHF_RELA_LIVEPATCH
        symbols = self._sections[section[_LINK]]
        strings = self._sections[symbols[_LINK]]
        at = self._symbol(symbols, strings, wanted.symbol)
        _, info, other, _, value, size = _SYMBOL.unpack_from(self._data, at)
        name = f".klp.sym.{wanted.object}.{wanted.stands_for},{wanted.sympos}"
        _SYMBOL.pack_into(
            self._data,
            at,
            self._append(strings, name),
            info,
            other,
            _SHN_LIVEPATCH,
            value,
            size,
        )
        for number, header in enumerate(self._sections):
            _SECTION.pack_into(self._data, self._shoff + number * _SECTION.size, *header)
        return bytes(self._data)

    def _section(self, name: str) -> list[int]:
        for header in self._sections:
            if self._string(self._sections[self._shstrndx], header[_NAME]) == name:
                return header
        raise ValueError(f"the module has no section {name}")

    def _symbol(self, symbols: list[int], strings: list[int], name: str) -> int:
        end = symbols[_OFFSET] + symbols[_SIZE]
        for at in range(symbols[_OFFSET], end, _SYMBOL.size):
            if self._string(strings, _SYMBOL.unpack_from(self._data, at)[0]) == name:
                return at
        raise ValueError(f"the module has no symbol {name}")

    def _string(self, strings: list[int], at: int) -> str:
        start = strings[_OFFSET] + at
        return self._data[start : self._data.index(0, start)].decode()

    def _append(self, strings: list[int], text: str) -> int:
        """Add a string to a table, which moves to the end of the file; return its place there."""
        start = strings[_OFFSET]
        table = bytes(self._data[start : start + strings[_SIZE]])
        strings[_OFFSET] = len(self._data)
        self._data += table + text.encode() + b"\0"
        strings[_SIZE] = len(self._data) - strings[_OFFSET]
        return len(table)
