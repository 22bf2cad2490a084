# SPDX-License-Identifier: GPL-2.0-only
"""A livepatch's file, in which the klp structures can be read and changed."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING

from benchmarks.module_mutation.rewrite import R_X86_64_NONE, ElfCopy
from harness.errors import UsageError
from harness.vm.elf.elf_file import ElfFile
from harness.vm.elf.klp_structs import locate_patch
from harness.vm.elf.module_info import SHN_LIVEPATCH

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.module_mutation.rewrite import Relocation, Symbol
    from harness.vm.elf.klp_structs import FunctionPlace, ObjectPlace

OLD_NAME, NEW_FUNC = 0, 8
OBJECT_NAME, FUNCS = 0, 8
_STT_FUNC = 2
# How code of a module refers to a string: R_X86_64_32, R_X86_64_32S, and R_X86_64_PC32, whose
# addend is less by the four bytes up to the next instruction.
_ABSOLUTE, _RELATIVE = (10, 11), 2
_STRINGS = re.compile(r"\.rodata(\..*)?\.str")
_KLP_SYMBOL = re.compile(r"(\.klp\.sym\.([^.]+)\.)(.+)(,\d+)\Z")


class Callback(Enum):
    """A callback of a klp_object; the value is its offset there (struct klp_callbacks)."""

    PRE_PATCH = 16
    POST_PATCH = 24
    PRE_UNPATCH = 32
    POST_UNPATCH = 40


@dataclass(frozen=True, kw_only=True)
class StringUse:
    """A place in a new body that uses a string of the module."""

    relocation: Relocation
    text: str
    section: int
    start: int


class LivepatchFile:
    """A livepatch's .ko. Raises UsageError for a module that fills its klp_patch at run time."""

    def __init__(self, content: bytes, name: str) -> None:
        layout = locate_patch(ElfFile(content))
        if layout is None:
            raise UsageError(
                f"{name} has no klp_patch in its file: it is filled when the module runs",
                hint="mutants are made of livepatches with initialized structures",
            )
        self.elf = ElfCopy(content)
        self.layout = layout

    @property
    def objects(self) -> tuple[ObjectPlace, ...]:
        """The klp_objects, in the module's order."""
        return self.layout.objects

    @property
    def functions(self) -> tuple[FunctionPlace, ...]:
        """The klp_funcs of all objects, in the module's order."""
        return tuple(place for each in self.objects for place in each.functions)

    # -- pointers -----------------------------------------------------------------------------

    def pointer(self, section: int, offset: int) -> Relocation:
        """Return the pointer at that place; raises KeyError when there is none."""
        relocation = self.elf.relocation(section, offset)
        if relocation is None:
            raise KeyError(f"no pointer at {offset} of section {section}")
        return relocation

    def swap(self, section: int, one: int, other: int) -> None:
        """Exchange two pointers of a section."""
        first, second = (self.elf.relocation(section, offset) for offset in (one, other))
        if first is not None and second is not None:
            self.elf.retarget(first, second)
            self.elf.retarget(second, first)

    def drop(self, section: int, offset: int) -> None:
        """Make the pointer at that place NULL, if it is not."""
        relocation = self.elf.relocation(section, offset)
        if relocation is not None:
            self.elf.put(replace(relocation, type=R_X86_64_NONE, symbol=0))

    def set_string(self, section: int, offset: int, text: str) -> None:
        """Point a char pointer to another text, which is added to the module's strings."""
        relocation = self.pointer(section, offset)
        symbol = self._symbols[relocation.symbol]
        start = self.elf.append(symbol.section, text.encode() + b"\0")
        self.elf.put(replace(relocation, addend=start - symbol.value))

    # -- callbacks, bodies, strings, symbols --------------------------------------------------

    def has(self, place: ObjectPlace, callback: Callback) -> bool:
        """Return whether an object has that callback."""
        return self.elf.relocation(place.section, place.offset + callback.value) is not None

    def callback(self, place: ObjectPlace, callback: Callback) -> tuple[int, int]:
        """Return what a callback's pointer points to, to be compared; raises KeyError."""
        pointer = self.pointer(place.section, place.offset + callback.value)
        return pointer.symbol, pointer.addend

    def body(self, place: FunctionPlace) -> Symbol | None:
        """Return the symbol of a function's new body, None when it has none."""
        pointer = self.pointer(place.section, place.offset + NEW_FUNC)
        base = self._symbols[pointer.symbol]
        return next(
            (
                symbol
                for symbol in self._symbols
                if symbol.section == base.section
                and symbol.value == base.value + pointer.addend
                and symbol.info & 0xF == _STT_FUNC
            ),
            None,
        )

    def strings_of(self, body: Symbol) -> Iterator[StringUse]:
        """Yield the uses of strings in a body, in its order."""
        for relocation in self.elf.relocations(body.section):
            if not body.value <= relocation.offset < body.value + body.size:
                continue
            if relocation.type not in (*_ABSOLUTE, _RELATIVE):
                continue
            symbol = self._symbols[relocation.symbol]
            if symbol.section >= len(self.elf.sections) or not self._is_strings(symbol.section):
                continue
            start = symbol.value + relocation.addend + (4 if relocation.type == _RELATIVE else 0)
            yield StringUse(
                relocation=relocation,
                text=self.elf.string(symbol.section, start),
                section=symbol.section,
                start=start,
            )

    def use_string(self, body: Symbol, use: StringUse, start: int) -> None:
        """Let that place in a body use the string that begins at ``start`` of the same section."""
        for relocation in self.elf.relocations(body.section):
            if relocation.at == use.relocation.at:
                addend = relocation.addend + start - use.start
                self.elf.put(replace(relocation, addend=addend))

    def texts(self, section: int) -> dict[str, int]:
        """Return the strings of a section and where each begins."""
        content = self.elf.read(section, 0, self.elf.sections[section].size)
        found: dict[str, int] = {}
        start = 0
        for piece in content.split(b"\0")[:-1]:
            found.setdefault(piece.decode(errors="replace"), start)
            start += len(piece) + 1
        return found

    def klp_symbols(self) -> Iterator[tuple[Symbol, str, str]]:
        """Yield the symbols that livepatch resolves, each with its object and its name there."""
        for symbol in self._symbols:
            match = _KLP_SYMBOL.match(symbol.name)
            if match and symbol.section == SHN_LIVEPATCH:
                yield symbol, match[2], match[3]

    def rename_klp_symbol(self, symbol: Symbol, name: str) -> None:
        """Let livepatch resolve a symbol to another one of its object."""
        self.elf.rename_symbol(symbol, _KLP_SYMBOL.sub(rf"\g<1>{name}\g<4>", symbol.name))

    @property
    def _symbols(self) -> tuple[Symbol, ...]:
        return self.elf.symbols()

    def _is_strings(self, section: int) -> bool:
        return bool(_STRINGS.match(self.elf.section_name(section)))
