# SPDX-License-Identifier: GPL-2.0-only
"""A module file in memory that is changed byte by byte: relocations, words, strings, symbols.

What grows moves to the end of the file. A module's sections are copied to where the kernel wants
them (kernel/module/main.c, move_module()), so their order in the file means nothing.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace

R_X86_64_NONE = 0
"""A relocation that does nothing (arch/x86/kernel/module.c)."""

_SHOFF_AT, _SHSTRNDX_AT = 40, 62
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_RELA = struct.Struct("<QQq")
_WORD = struct.Struct("<Q")
_SHT_RELA, _SHT_NOBITS = 4, 8
# struct module_signature and MODULE_SIG_STRING (include/linux/module_signature.h).
_SIGNATURE = b"~Module signature appended~\n"
_SIGNATURE_INFO = struct.Struct(">8xI")


@dataclass
class Section:
    """A section header; the names are those of elf(5) without ``sh_``."""

    name: int
    type: int
    flags: int
    addr: int
    offset: int
    size: int
    link: int
    info: int
    addralign: int
    entsize: int


@dataclass(frozen=True, kw_only=True)
class Relocation:
    """A relocation with addend. ``at`` is where in the file it is, ``offset`` what it changes."""

    at: int
    offset: int
    symbol: int
    type: int
    addend: int


@dataclass(frozen=True, kw_only=True)
class Symbol:
    """A symbol. ``at`` is where in the file it is, ``section`` the index of its section."""

    at: int
    name: str
    info: int
    other: int
    section: int
    value: int
    size: int


class ElfCopy:
    """A module (ELF64, little endian) to be changed; sections are named by their numbers.

    A signature is left out: it would not fit what comes of the module.
    """

    def __init__(self, content: bytes) -> None:
        self._data = bytearray(_without_signature(content))
        (self._shoff,) = _WORD.unpack_from(self._data, _SHOFF_AT)
        _, count, self._shstrndx = struct.unpack_from("<HHH", self._data, _SHSTRNDX_AT - 4)
        self.sections = [
            Section(*_SECTION.unpack_from(self._data, self._shoff + number * _SECTION.size))
            for number in range(count)
        ]

    def content(self) -> bytes:
        """Return the file as it is now."""
        for number, section in enumerate(self.sections):
            _SECTION.pack_into(
                self._data, self._shoff + number * _SECTION.size, *vars(section).values()
            )
        return bytes(self._data)

    # -- sections -----------------------------------------------------------------------------

    def section(self, name: str) -> int:
        """Return the number of a section; raises ValueError when there is none of that name."""
        for number in range(len(self.sections)):
            if self.section_name(number) == name:
                return number
        raise ValueError(f"the module has no section {name}")

    def section_name(self, number: int) -> str:
        """Return the name of a section."""
        return self.string(self._shstrndx, self.sections[number].name)

    def rename_section(self, number: int, name: str) -> None:
        """Give a section another name."""
        self.sections[number].name = self.append(self._shstrndx, name.encode() + b"\0")

    def read(self, section: int, offset: int, size: int) -> bytes:
        """Return so many bytes of a section; zeroes for one that the file has no content of."""
        where = self.sections[section]
        if where.type == _SHT_NOBITS:
            return bytes(size)
        return bytes(self._data[where.offset + offset : where.offset + offset + size])

    def string(self, section: int, offset: int) -> str:
        """Return the string that begins there."""
        start = self.sections[section].offset + offset
        return self._data[start : self._data.index(0, start)].decode(errors="replace")

    def write(self, section: int, offset: int, content: bytes) -> None:
        """Overwrite bytes of a section."""
        where = self.sections[section]
        if where.type == _SHT_NOBITS or offset + len(content) > where.size:
            raise ValueError(f"section {section} has no {len(content)} bytes at {offset}")
        start = where.offset + offset
        self._data[start : start + len(content)] = content

    def word(self, section: int, offset: int) -> int:
        """Return the 64 bits that begin there."""
        (value,) = _WORD.unpack(self.read(section, offset, _WORD.size))
        return int(value)

    def set_word(self, section: int, offset: int, value: int) -> None:
        """Overwrite the 64 bits that begin there."""
        self.write(section, offset, _WORD.pack(value))

    def append(self, number: int, content: bytes) -> int:
        """Add bytes to a section, which moves to the end of the file; return their offset in it."""
        section = self.sections[number]
        kept = bytes(self._data[section.offset : section.offset + section.size])
        # Symbols and relocations are read as arrays of words.
        self._data += bytes(-len(self._data) % 8)
        section.offset = len(self._data)
        self._data += kept + content
        section.size = len(kept) + len(content)
        return len(kept)

    # -- symbols ------------------------------------------------------------------------------

    def symbols(self, table: int | None = None) -> tuple[Symbol, ...]:
        """Return the symbols by their numbers."""
        section = self.sections[self.section(".symtab") if table is None else table]
        found = []
        for at in range(section.offset, section.offset + section.size, _SYMBOL.size):
            name, info, other, where, value, size = _SYMBOL.unpack_from(self._data, at)
            found.append(
                Symbol(
                    at=at,
                    name=self.string(section.link, name),
                    info=info,
                    other=other,
                    section=where,
                    value=value,
                    size=size,
                )
            )
        return tuple(found)

    def rename_symbol(
        self, symbol: Symbol, name: str, *, section: int | None = None, table: int | None = None
    ) -> None:
        """Give a symbol another name, and another section index when one is named."""
        strings = self.sections[self.section(".symtab") if table is None else table].link
        _SYMBOL.pack_into(
            self._data,
            symbol.at,
            self.append(strings, name.encode() + b"\0"),
            symbol.info,
            symbol.other,
            symbol.section if section is None else section,
            symbol.value,
            symbol.size,
        )

    # -- relocations --------------------------------------------------------------------------

    def relocations(self, section: int) -> tuple[Relocation, ...]:
        """Return the relocations that change a section, in the order of the file."""
        found = []
        for table in self.sections:
            if table.type != _SHT_RELA or table.info != section:
                continue
            for at in range(table.offset, table.offset + table.size, _RELA.size):
                offset, info, addend = _RELA.unpack_from(self._data, at)
                found.append(
                    Relocation(
                        at=at,
                        offset=offset,
                        symbol=info >> 32,
                        type=info & 0xFFFFFFFF,
                        addend=addend,
                    )
                )
        return tuple(found)

    def relocation(self, section: int, offset: int) -> Relocation | None:
        """Return the relocation that changes this place, None when there is none."""
        return next(
            (
                each
                for each in self.relocations(section)
                if each.offset == offset and each.type != R_X86_64_NONE
            ),
            None,
        )

    def retarget(self, relocation: Relocation, like: Relocation) -> None:
        """Make a relocation point where another one does."""
        self.put(replace(relocation, symbol=like.symbol, addend=like.addend))

    def put(self, relocation: Relocation) -> None:
        """Write a relocation to its place in the file."""
        info = relocation.symbol << 32 | relocation.type
        _RELA.pack_into(self._data, relocation.at, relocation.offset, info, relocation.addend)


def _without_signature(content: bytes) -> bytes:
    if not content.endswith(_SIGNATURE):
        return content
    end = len(content) - len(_SIGNATURE) - _SIGNATURE_INFO.size
    (size,) = _SIGNATURE_INFO.unpack_from(content, end)
    return content[: end - size]
