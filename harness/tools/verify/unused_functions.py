# SPDX-License-Identifier: GPL-2.0-only
"""The functions of a module that nothing uses.

A function is used by a pointer in data (klp_func, callbacks, parameters, exports,
__this_module), or by code that is used itself. References that only describe code (call sites for
ftrace, unwind tables, debug information) do not count. In doubt a reference counts, so that too
few functions are found rather than too many.
"""

from __future__ import annotations

import bisect
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.vm.elf.elf_file import EXEC, STT_FUNC
from harness.vm.elf.klp_structs import function_lists
from harness.vm.elf.module_info import open_module, readable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

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
_INIT_OR_EXIT = re.compile(r"\.(init|exit)\b")
# objtool's padding before a function, and parts that gcc moved out of one.
_PARTS = re.compile(r"__(pfx|cfi)_|.*\.cold(\.\d+)?\Z")
# What comes before a distance, and how many bytes the distance has: jmp and jcc with one byte; call
# and jmp, jcc after 0x0f, and lea from the next instruction on (its ModRM byte), with four. Each is
# looked for at every byte (?=), since code is not disassembled.
_BEFORE_DISTANCE = (
    (re.compile(rb"(?=([\xeb\x70-\x7f]))", re.DOTALL), 1),
    (re.compile(rb"(?=([\xe8\xe9]|\x0f[\x80-\x8f]|\x8d[\x05\x0d\x15\x1d\x25\x2d\x35\x3d]))"), 4),
)


@dataclass(frozen=True, kw_only=True, order=True)
class _Function:
    """A function by its place; the names of one that has several are aliases."""

    section: int
    start: int
    end: int
    names: tuple[str, ...]


_Place = tuple[int, int]
"""A section's number and an offset there."""


def unused_functions(path: Path) -> tuple[str, ...]:
    """Return the functions of a livepatch that nothing uses, in the order of its sections.

    Functions of init and exit sections, and parts that the compiler split off, count as used.
    Raises UsageError when it is no module or damaged.
    """
    with readable(path):
        return _Module(open_module(path).elf).unused()


class _Module:
    def __init__(self, elf: ElfFile) -> None:
        self._elf = elf
        self._functions = sorted(self._read_functions())
        self._keys = [(each.section, each.start) for each in self._functions]
        self._starts = dict(zip(self._keys, self._functions, strict=True))
        self._orphans = self._orphan_lists()

    def unused(self) -> tuple[str, ...]:
        """Return the functions that are not reached from data or from init and exit code."""
        references: dict[_Place | None, set[_Place]] = {}
        for source, target in (*self._pointers(), *self._near_calls()):
            references.setdefault(source, set()).add(target)
        reached = {(each.section, each.start) for each in self._functions if self._is_root(each)}
        pending: list[_Place | None] = [*reached, None]
        while pending:
            for target in references.get(pending.pop(), ()):
                if target not in reached:
                    reached.add(target)
                    pending.append(target)
        return tuple(
            dict.fromkeys(
                name
                for each in self._functions
                if (each.section, each.start) not in reached
                for name in each.names
            )
        )

    def _is_root(self, function: _Function) -> bool:
        section = self._elf.sections[function.section].name
        return bool(
            _INIT_OR_EXIT.match(section) or any(_PARTS.match(name) for name in function.names)
        )

    def _read_functions(self) -> Iterator[_Function]:
        functions = [
            symbol
            for symbol in self._elf.symbols or ()
            if symbol.kind == STT_FUNC
            and symbol.size
            and symbol.defined_in is not None
            and self._elf.sections[symbol.section].flags & EXEC
        ]
        self._elf.require_inside(functions)
        places: dict[_Place, list[tuple[int, str]]] = {}
        for symbol in functions:
            end = symbol.value + symbol.size
            places.setdefault((symbol.section, symbol.value), []).append((end, symbol.name))
        for (section, start), found in places.items():
            found.sort()
            names = tuple(name for _, name in found)
            yield _Function(section=section, start=start, end=found[-1][0], names=names)

    def _function_at(self, section: int, offset: int) -> _Place | None:
        """Return the function that contains that place."""
        place = bisect.bisect_right(self._keys, (section, offset)) - 1
        if place < 0:
            return None
        found = self._functions[place]
        is_inside = found.section == section and found.start <= offset < found.end
        return (section, found.start) if is_inside else None

    def _pointers(self) -> Iterator[tuple[_Place | None, _Place]]:
        """Yield which function uses which by a relocation; None stands for data."""
        for source, offset, target in self._relocations():
            if target in self._starts and not self._is_in_orphan(source, offset):
                yield self._function_at(source, offset), target

    def _relocations(self, *, everywhere: bool = False) -> Iterator[tuple[int, int, _Place]]:
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

    def _near_calls(self) -> Iterator[tuple[_Place | None, _Place]]:
        """Yield which function uses which within a section, where there are no relocations.

        The code is not disassembled: all bytes count that look like a call, a jump, or lea of the
        start of a function, unless a relocation fills in the distance.
        """
        filled = {(source, offset) for source, offset, _ in self._relocations(everywhere=True)}
        for number in sorted({each.section for each in self._functions}):
            code = self._elf.data(self._elf.sections[number])
            for pattern, size in _BEFORE_DISTANCE:
                for match in pattern.finditer(code):
                    at = match.end(1)
                    end = at + size
                    distance = int.from_bytes(code[at:end], "little", signed=True)
                    target = (number, end + distance)
                    if target not in self._starts or (number, at) in filled:
                        continue
                    # Of what lies between functions, nothing is known: it counts as used.
                    yield self._function_at(number, at), target

    def _is_in_orphan(self, section: int, offset: int) -> bool:
        place = bisect.bisect_right(self._orphans, (section, offset, float("inf"))) - 1
        if place < 0:
            return False
        where, start, end = self._orphans[place]
        return where == section and start <= offset < end

    def _orphan_lists(self) -> list[tuple[int, int, int]]:
        """Return the places of arrays of klp_func that no object of the patch points to, sorted."""
        lists = function_lists(self._elf)
        if not lists:
            return []
        pointed = sorted({target for _, _, target in self._relocations()})

        def is_pointed_to(section: int, start: int, end: int) -> bool:
            place = bisect.bisect_left(pointed, (section, start))
            return place < len(pointed) and pointed[place] < (section, end)

        return sorted(each for each in lists if not is_pointed_to(*each))
