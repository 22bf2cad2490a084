# SPDX-License-Identifier: GPL-2.0-only
"""The functions of a module, and which uses which.

Code is not disassembled: relocations and whatever looks like a call or a jump count. References
that only describe code (call sites for ftrace, unwind tables, debug information) do not. In doubt
a reference counts.
"""

from __future__ import annotations

import bisect
import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from harness.vm.elf.elf_file import EXEC, STT_FUNC

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from harness.vm.elf.elf_file import ElfFile

_R_X86_64_PC32, _R_X86_64_PLT32 = 2, 4
# Sections that point to code without using it. _kprobe_blacklist, .ibt_endbr_seal and
# .discard.addressable name whole functions.
_DESCRIBE = re.compile(
    r"__mcount_loc|__patchable_function_entries|\.(orc|debug|discard|eh_frame|sframe|stack_sizes|"
    r"llvm|BTF|static_call_sites|altinstructions|smp_locks|parainstructions|export_symbol).*|"
    r"\.(return|retpoline|call|cfi)_sites|\.ibt_endbr_seal|\.?_*kcfi_traps|__(jump|bug|ex)_table|"
    r"_kprobe_blacklist"
)
_RELOCATIONS = re.compile(r"\.rela|\.klp\.rela\.[^.]+(?=\.)")
# What comes before a distance, and how many bytes the distance has: jmp and jcc with one byte; call
# and jmp, jcc after 0x0f, and lea from the next instruction on (its ModRM byte), with four. Each is
# looked for at every byte (?=), since code is not disassembled.
_BEFORE_DISTANCE = (
    (re.compile(rb"(?=([\xeb\x70-\x7f]))", re.DOTALL), 1),
    (re.compile(rb"(?=([\xe8\xe9]|\x0f[\x80-\x8f]|\x8d[\x05\x0d\x15\x1d\x25\x2d\x35\x3d]))"), 4),
)


@dataclass(frozen=True, kw_only=True, order=True)
class Function:
    """A function by its place; the names of one that has several are aliases."""

    section: int
    start: int
    end: int
    names: tuple[str, ...]


Place = tuple[int, int]
"""A section's number and an offset there."""


class CodeGraph:
    """The functions of a module's file. Raises DamagedElf."""

    def __init__(self, elf: ElfFile) -> None:
        self._elf = elf
        self.functions = tuple(sorted(self._read_functions()))
        self._keys = [(each.section, each.start) for each in self.functions]
        self.starts = dict(zip(self._keys, self.functions, strict=True))
        """All functions by their places."""

    def reached_from(
        self, roots: Iterable[Place | None], references: Mapping[Place | None, set[Place]]
    ) -> set[Place]:
        """Return the places that references lead to from some, those places among them."""
        reached = {root for root in roots if root is not None}
        pending = list(roots)
        while pending:
            for target in references.get(pending.pop(), ()):
                if target not in reached:
                    reached.add(target)
                    pending.append(target)
        return reached

    @cached_property
    def near_calls(self) -> tuple[tuple[Place | None, Place], ...]:
        """Which function uses which within a section, where there are no relocations."""
        return tuple(self._near_calls())

    def _read_functions(self) -> Iterator[Function]:
        functions = [
            symbol
            for symbol in self._elf.symbols or ()
            if symbol.kind == STT_FUNC
            and symbol.size
            and symbol.defined_in is not None
            and self._elf.sections[symbol.section].flags & EXEC
        ]
        self._elf.require_inside(functions)
        places: dict[Place, list[tuple[int, str]]] = {}
        for symbol in functions:
            end = symbol.value + symbol.size
            places.setdefault((symbol.section, symbol.value), []).append((end, symbol.name))
        for (section, start), found in places.items():
            found.sort()
            names = tuple(name for _, name in found)
            yield Function(section=section, start=start, end=found[-1][0], names=names)

    def function_at(self, section: int, offset: int) -> Place | None:
        """Return the start of the function that contains that place."""
        place = bisect.bisect_right(self._keys, (section, offset)) - 1
        if place < 0:
            return None
        found = self.functions[place]
        is_inside = found.section == section and found.start <= offset < found.end
        return (section, found.start) if is_inside else None

    def relocations(self, *, everywhere: bool = False) -> Iterator[tuple[int, int, Place]]:
        """Yield section and offset of each relocation that counts, and where it points.

        ``everywhere``: also of those that point out of the module.
        """
        for number, relocations in self._elf.tables.items():
            section = self._elf.sections[number]
            if _DESCRIBE.fullmatch(_RELOCATIONS.sub("", section.name, count=1)):
                continue
            source = section.info
            in_code = source and self._elf.sections[source].flags & EXEC
            for offset, kind, symbol, addend in relocations:
                where = symbol.defined_in
                if everywhere or where is not None:
                    target = symbol.value + addend
                    if in_code and kind in (_R_X86_64_PC32, _R_X86_64_PLT32):
                        target += 4  # counted from the next instruction
                    yield source, offset, (-1 if where is None else where, target)

    def _near_calls(self) -> Iterator[tuple[Place | None, Place]]:
        """Yield which function uses which within a section, where there are no relocations.

        The code is not disassembled: all bytes count that look like a call, a jump, or lea of the
        start of a function, unless a relocation fills in the distance.
        """
        filled = {(source, offset) for source, offset, _ in self.relocations(everywhere=True)}
        for number in sorted({each.section for each in self.functions}):
            code = self._elf.data(self._elf.sections[number])
            for pattern, size in _BEFORE_DISTANCE:
                for match in pattern.finditer(code):
                    at = match.end(1)
                    end = at + size
                    distance = int.from_bytes(code[at:end], "little", signed=True)
                    target = (number, end + distance)
                    if target not in self.starts or (number, at) in filled:
                        continue
                    # Of what lies between functions, nothing is known: it counts as used.
                    yield self.function_at(number, at), target
