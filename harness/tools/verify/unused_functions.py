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
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from elftools.elf.elffile import ELFFile
from elftools.elf.relocation import RelocationSection
from elftools.elf.sections import SymbolTableSection

from harness.vm.elf.klp_structs import function_lists

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_SHF_EXEC = 0x4
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
# Opcodes of jmp and jcc with a distance of one byte; of call and jmp, and after 0x0f of jcc, with
# one of four.
_SHORT = frozenset((0xEB, *range(0x70, 0x80)))
_NEAR = frozenset((0xE8, 0xE9))
_NEAR_AFTER_0F = frozenset(range(0x80, 0x90))
_LEA = 0x8D


@dataclass(frozen=True, kw_only=True, order=True)
class _Function:
    section: int
    start: int
    end: int
    name: str


def unused_functions(path: Path) -> tuple[str, ...]:
    """Return the functions of a livepatch that nothing uses, in the order of its sections.

    ``path`` is a module file that read_module() has read. Functions of init and exit sections, and
    parts that the compiler split off, count as used. Raises OSError when it cannot be read.
    """
    with path.open("rb") as file:
        return _Module(ELFFile(file)).unused()


class _Module:
    def __init__(self, elf: ELFFile) -> None:
        self._sections = list(elf.iter_sections())
        table = elf.get_section_by_name(".symtab")
        assert isinstance(table, SymbolTableSection)
        self._table = table
        self._functions = sorted(self._read_functions())
        self._starts = {(each.section, each.start): each for each in self._functions}
        self._orphans = self._orphan_lists(elf)

    def unused(self) -> tuple[str, ...]:
        """Return the functions that are not reached from data or from init and exit code."""
        references: dict[_Function | None, set[_Function]] = {}
        for source, target in (*self._pointers(), *self._near_calls()):
            references.setdefault(source, set()).add(target)
        reached = {each for each in self._functions if self._is_root(each)}
        pending = [*reached, None]
        while pending:
            for target in references.get(pending.pop(), ()):
                if target not in reached:
                    reached.add(target)
                    pending.append(target)
        places = {(each.section, each.start) for each in reached}  # aliases share them
        return tuple(
            dict.fromkeys(
                each.name for each in self._functions if (each.section, each.start) not in places
            )
        )

    def _is_root(self, function: _Function) -> bool:
        section = self._sections[function.section].name
        return bool(_INIT_OR_EXIT.match(section) or _PARTS.match(function.name))

    def _read_functions(self) -> Iterator[_Function]:
        for symbol in self._table.iter_symbols():
            where = symbol["st_shndx"]
            if (
                symbol["st_info"]["type"] == "STT_FUNC"
                and isinstance(where, int)
                and where < len(self._sections)
                and self._sections[where]["sh_flags"] & _SHF_EXEC
                and symbol["st_size"]
            ):
                start = symbol["st_value"]
                yield _Function(
                    section=where, start=start, end=start + symbol["st_size"], name=symbol.name
                )

    def _function_at(self, section: int, offset: int) -> _Function | None:
        """Return the function that contains that place."""
        key = _Function(section=section, start=offset + 1, end=0, name="")
        place = bisect.bisect_left(self._functions, key) - 1
        if place < 0:
            return None
        found = self._functions[place]
        return found if found.section == section and found.start <= offset < found.end else None

    def _pointers(self) -> Iterator[tuple[_Function | None, _Function]]:
        """Yield which function uses which by a relocation; None stands for data."""
        for source, offset, target in self._relocations():
            if any(number == source and offset in places for number, places in self._orphans):
                continue
            function = self._starts.get(target)
            if function is not None:
                yield self._function_at(source, offset), function

    def _relocations(
        self, *, everywhere: bool = False
    ) -> Iterator[tuple[int, int, tuple[int, int]]]:
        """Yield section and offset of each relocation that counts, and where it points.

        ``everywhere``: also of those that point out of the module.
        """
        for section in self._sections:
            if not isinstance(section, RelocationSection):
                continue
            if _DESCRIBE.fullmatch(_RELOCATIONS.sub("", section.name, count=1)):
                continue
            source = section["sh_info"]
            in_code = source and self._sections[source]["sh_flags"] & _SHF_EXEC
            for relocation in section.iter_relocations():
                symbol = self._table.get_symbol(relocation["r_info_sym"])
                where = symbol["st_shndx"]
                if everywhere or isinstance(where, int):
                    target = symbol["st_value"] + relocation["r_addend"]
                    if in_code and relocation["r_info_type"] in (_R_X86_64_PC32, _R_X86_64_PLT32):
                        target += 4  # counted from the next instruction
                    yield source, relocation["r_offset"], (where, target)

    def _near_calls(self) -> Iterator[tuple[_Function | None, _Function]]:
        """Yield which function uses which within a section, where there are no relocations.

        The code is not disassembled: all bytes count that look like a call, a jump, or lea of the
        start of a function, unless a relocation fills in the distance.
        """
        texts: dict[int, bytes] = {}
        filled = {(source, offset) for source, offset, _ in self._relocations(everywhere=True)}
        for function in self._functions:
            number = function.section
            if number not in texts:
                texts[number] = self._sections[number].data()
            code = texts[number]
            for at in range(function.start, function.end):
                for form in _distances(code[max(at - 2, 0) : at]):
                    end = at + struct.calcsize(form)
                    if end > function.end or (number, at) in filled:
                        continue
                    (distance,) = struct.unpack_from(form, code, at)
                    target = self._starts.get((number, end + distance))
                    if target is not None:
                        yield function, target

    def _orphan_lists(self, elf: ELFFile) -> list[tuple[int, range]]:
        """Return the places of arrays of klp_func that no object of the patch points to."""
        lists = function_lists(elf)
        if not lists:
            return []
        pointed = {target for _, _, target in self._relocations()}
        return [
            (section, range(start, end))
            for section, start, end in lists
            if not any(where == section and start <= offset < end for where, offset in pointed)
        ]


def _distances(before: bytes) -> Iterator[str]:
    """Yield the formats, for struct, that a distance can have after these two bytes."""
    *_, first, last = (0, 0, *before)
    if last in _SHORT:
        yield "<b"
    relative = last & 0xC7 == 0x05  # a ModRM byte: what follows counts from the next instruction
    if last in _NEAR or (first == 0x0F and last in _NEAR_AFTER_0F) or (first == _LEA and relative):
        yield "<i"
