# SPDX-License-Identifier: GPL-2.0-only
"""The functions of a module and its klp_funcs, as its file has them: section by section."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from harness.deadline import Deadline
from harness.observer.consistency_points import body_of
from harness.observer.image import parse_instructions
from harness.observer.shared_file import Function, FunctionFlag
from harness.observer.versions import Body, Version
from harness.vm.elf.elf_file import EXEC, STT_FUNC
from harness.vm.elf.klp_structs import NEW_FUNC, PatchedFunction, locate_patch
from harness.vm.elf.module_info import open_module
from harness.vm.host.process import run

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from harness.observer.consistency import Model
    from harness.observer.guest_versions import GuestVersion
    from harness.observer.image import Instruction
    from harness.vm.elf.elf_file import ElfFile

_OBJDUMP_S = 60.0
_SECTION = re.compile(r"^Disassembly of section (\S+):$", re.M)
_THUNK = "__x86_return_thunk"
_JMP = 0xE9
_NEAR_JUMP = 0x0F

Place = tuple[str, int]
"""A section's name and an offset in it."""


@dataclass(frozen=True, kw_only=True)
class ModuleFunction:
    """A function: its places with their sizes, the first of them its own; where its body begins."""

    name: str
    parts: tuple[tuple[Place, int], ...]
    body: int
    is_left: bool


@dataclass(frozen=True, kw_only=True)
class ModuleVersion:
    """A klp_func: where it is, what it replaces, and the place of the new function."""

    place: Place
    function: PatchedFunction
    new: Place | None


@dataclass(frozen=True, kw_only=True)
class ModuleCode:
    """The functions of a module that can be traced, its klp_funcs, and text of other functions."""

    functions: tuple[ModuleFunction, ...]
    versions: tuple[ModuleVersion, ...]
    untraced: tuple[tuple[Place, int], ...] = ()

    def sections(self) -> tuple[str, ...]:
        """Return the names of the sections whose addresses are needed."""
        names = [part[0][0] for each in self.functions for part in each.parts]
        return tuple(dict.fromkeys([*names, *(each.place[0] for each in self.versions)]))

    def text(self, sections: Mapping[str, int]) -> Iterator[Function]:
        """Yield what the plugin is to know of the functions, loaded at those addresses."""
        for each in self.functions:
            (home, _), _ = each.parts[0]
            if home not in sections:
                continue
            flags = FunctionFlag.IS_LEFT if each.is_left else FunctionFlag(0)
            for (section, offset), size in each.parts:
                if section in sections:
                    start = sections[section] + offset
                    yield Function(start, start + size, sections[home] + each.body, flags)
        for (section, offset), size in self.untraced:
            if section in sections:
                start = sections[section] + offset
                yield Function(start, start + size, 0, FunctionFlag(0))


@functools.lru_cache(maxsize=256)
def read_module(path: Path) -> ModuleCode:
    """Read a .ko file. Raises UsageError as `open_module` does."""
    elf = open_module(path).elf
    code = disassembled(path)
    jumps = _jumps_away(elf)
    places = _places(elf)
    functions = tuple(_functions(places, code, jumps))
    known = {part for each in functions for part in each.parts}
    return ModuleCode(
        functions=functions,
        versions=tuple(_versions(elf)),
        untraced=tuple(part for part in places.values() if part not in known),
    )


def replaced_by(path: Path) -> tuple[ModuleVersion, ...]:
    """Return the klp_funcs of a .ko file; none where the module fills them when it runs."""
    return tuple(_versions(open_module(path).elf))


def add_module(
    model: Model, name: str, code: ModuleCode, sections: Mapping[str, int], since: int
) -> None:
    """Tell a model what a module has, loaded at those addresses from that event on."""
    versions: dict[Place, list[Version]] = {}
    for each in code.versions:
        if each.place[0] not in sections:
            continue
        key = (each.function.object, each.function.name)
        version = Version(key=key, patch=name, since=since)
        model.add_version(since, sections[each.place[0]] + each.place[1], version)
        if each.new is not None:
            versions.setdefault(each.new, []).append(version)
    for function in code.functions:
        (home, start), _ = function.parts[0]
        if home not in sections:
            continue
        replacing = versions.get((home, start), [])
        replaces = replacing[0] if replacing else None
        parts = tuple(
            (sections[section] + offset, sections[section] + offset + size)
            for (section, offset), size in function.parts
            if section in sections
        )
        body = Body(
            key=(name, function.name) if replaces is None else replaces.key,
            parts=parts,
            module=name,
            version=replaces,
            is_left=function.is_left,
            since=since,
            also=tuple((each.key, each) for each in replacing[1:]),
        )
        model.add_body(since, sections[home] + function.body, body)


def add_filled(model: Model, name: str, filled: GuestVersion, since: int) -> None:
    """Tell a model of a klp_func that a module fills when it runs, and whose body is its own."""
    version = Version(key=(filled.object, filled.function), patch=name, since=since)
    model.add_version(since, filled.address, version)
    found = model.body_of(since, filled.new)
    if found is not None:
        entry, body = found
        if body.version is None:
            body = replace(body, key=version.key, version=version, since=since)
        else:
            body = replace(body, also=(*body.also, (version.key, version)))
        model.add_body(since, entry, body)


def _places(elf: ElfFile) -> dict[str, tuple[Place, int]]:
    """Return where the functions are that stay in memory, and their sizes; of one name, none."""
    places: dict[str, tuple[Place, int]] = {}
    twice: set[str] = set()
    for symbol in elf.symbols or ():
        home = symbol.defined_in
        if symbol.kind != STT_FUNC or home is None or not symbol.size:
            continue
        section = elf.sections[home]
        # The text of init functions is freed, and is no version of anything.
        if section.flags & EXEC and not section.name.startswith(".init"):
            if symbol.name in places:
                twice.add(symbol.name)
            places[symbol.name] = ((section.name, symbol.value), symbol.size)
    # Nothing shows which of them a livepatch replaces, but for the position that it names.
    return {name: place for name, place in places.items() if name not in twice}


def _functions(
    places: Mapping[str, tuple[Place, int]],
    code: Mapping[str, tuple[Instruction, ...]],
    jumps: set[Place],
) -> list[ModuleFunction]:
    found = []
    for name, ((section_name, start), size) in places.items():
        own = [insn for insn in code.get(section_name, ()) if start <= insn.address < start + size]
        body = body_of(start, [insn.data for insn in own[:2]])
        if body is None:
            continue
        parts = [places[name]]
        if f"{name}.cold" in places:
            parts.append(places[f"{name}.cold"])
        away = any((section_name, place) in jumps for place in range(start, start + size))
        # Jumps with a relocation have no target yet: objdump shows the next instruction.
        inside = all(
            start <= insn.target <= start + size for insn in own if insn.target is not None
        )
        direct = all(insn.target is not None for insn in own if insn.name == "jmp")
        found.append(
            ModuleFunction(
                name=name,
                parts=tuple(parts),
                body=body,
                is_left=not away and inside and direct,
            )
        )
    return found


def _jumps_away(elf: ElfFile) -> set[Place]:
    """Return where a jump leads to another function by a relocation, but for returns."""
    found = set()
    for number, relocations in elf.tables.items():
        section = elf.sections[elf.sections[number].info]
        if not section.flags & EXEC:
            continue
        content = elf.data(section)
        for relocation in relocations:
            at = relocation.offset - 1
            if at < 1 or relocation.symbol.name == _THUNK:
                continue
            target = relocation.symbol.name
            is_jump = content[at] == _JMP or (
                content[at - 1] == _NEAR_JUMP and content[at] & 0xF0 == 0x80
            )
            if (
                is_jump
                and not target.partition(".cold")[1]
                and relocation.symbol.defined_in is None
            ):
                found.add((section.name, at))
    return found


def _versions(elf: ElfFile) -> list[ModuleVersion]:
    layout = locate_patch(elf)
    found = []
    for place in (each for one in layout.objects for each in one.functions) if layout else ():
        section = elf.sections[place.section]
        new: Place | None = None
        for number, relocations in elf.tables.items():
            if elf.sections[number].info != place.section:
                continue
            for relocation in relocations:
                home = relocation.symbol.defined_in
                if relocation.offset == place.offset + NEW_FUNC and home is not None:
                    offset = relocation.symbol.value + relocation.addend
                    new = (elf.sections[home].name, offset)
        found.append(
            ModuleVersion(place=(section.name, place.offset), function=place.function, new=new)
        )
    return found


def disassembled(path: Path) -> dict[str, tuple[Instruction, ...]]:
    """Return the instructions of each section of a module."""
    done = run(["objdump", "-d", "-w", path], deadline=Deadline.after(_OBJDUMP_S))
    parts = _SECTION.split(done.stdout)
    return {
        name: parse_instructions(text) for name, text in zip(parts[1::2], parts[2::2], strict=True)
    }
