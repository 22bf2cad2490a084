# SPDX-License-Identifier: GPL-2.0-only
"""Which lines the instructions of a module belong to, by the DWARF of its own file."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from harness.deadline import Deadline
from harness.errors import UsageError
from harness.inputs import shown
from harness.observer.code_map import (
    Branch,
    Code,
    CodeMap,
    Place,
    SourceFile,
    branches_of,
    is_padding,
    parse_addr2line,
)
from harness.observer.image import Instruction
from harness.observer.module_code import disassembled
from harness.vm.elf.elf_file import EXEC
from harness.vm.elf.module_info import open_module
from harness.vm.host.process import run

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_ADDR2LINE_S = 60.0
_MOST_LINES = 100_000
# Sections of a module have no addresses yet: in the map they are this far apart.
_APART = 1 << 32
_DISTANCE_BYTES = 4


def sections_of(path: Path) -> dict[str, int]:
    """Return the sections with code of a .ko file, and their sizes. Raises as `open_module` does.

    Two of one name are none: what the guest says of them is not known.
    """
    elf = open_module(path).elf
    named = Counter(each.name for each in elf.sections)
    return {
        each.name: each.size
        for each in elf.sections
        if each.flags & EXEC and each.size and named[each.name] == 1
    }


def address_of(sections: Sequence[str], section: str, offset: int) -> int:
    """Return the address in the map of code at an offset of one of those sections."""
    return (sections.index(section) + 1) * _APART + offset


def module_map(path: Path, sources: Path | None) -> CodeMap:
    """Return the map of a .ko file: of the files of its own folder and of those in ``sources``.

    What the file has of the kernel's headers is left out. A source that is not on this machine has
    empty lines. Raises UsageError for a module without DWARF.
    """
    sections = tuple(sections_of(path))
    code = disassembled(path)
    elsewhere = _elsewhere(path, sections)
    parts = [
        _moved(code.get(name, ()), number * _APART, elsewhere)
        for number, name in enumerate(sections, 1)
    ]
    chains = {
        address + number * _APART: chain
        for number, name in enumerate(sections, 1)
        for address, chain in _lines(path, name, code.get(name, ())).items()
    }
    found: dict[str, SourceFile | None] = {}
    codes = []
    for insn in (each for part in parts for each in part):
        places = []
        for function, named, line in chains.get(insn.address, ()):
            if named not in found:
                found[named] = _source(named, path, sources)
            source = found[named]
            if source is not None and line:
                places.append(Place(file=source.name, line=line, function=function))
        if places:
            warns = insn.text.startswith("ud2")
            codes.append(Code(address=insn.address, places=tuple(places), warns=warns))
    if not codes:
        raise UsageError(
            f"{shown(path)} does not say which lines its code is of",
            hint="build it with -g: make CFLAGS_MODULE='-g -gdwarf-4', or give its folder of "
            "sources",
        )
    files = {each.name: each for each in found.values() if each is not None}
    return CodeMap(
        digest=hashlib.sha256(path.read_bytes()).hexdigest()[:32],
        ranges=(),
        codes=tuple(codes),
        branches=tuple(_known(parts, codes)),
        files=tuple(
            _long_enough(files[name], [place for code in codes for place in code.places])
            for name in sorted(files)
        ),
    )


def _elsewhere(path: Path, sections: Sequence[str]) -> dict[int, int]:
    """Return where jumps lead that the kernel fills in, by the address of their distance."""
    elf = open_module(path).elf
    found = {}
    for number, relocations in elf.tables.items():
        section = elf.sections[elf.sections[number].info].name
        if section not in sections:
            continue
        for relocation in relocations:
            symbol = relocation.symbol
            home = None if symbol.defined_in is None else elf.sections[symbol.defined_in].name
            if home is not None and home in sections:
                # The distance is counted from the end of its four bytes.
                offset = symbol.value + relocation.addend + _DISTANCE_BYTES
                place = address_of(sections, section, relocation.offset)
                found[place] = address_of(sections, home, offset)
    return found


def _moved(code: Sequence[Instruction], by: int, elsewhere: Mapping[int, int]) -> list[Instruction]:
    """Return instructions at other addresses, with the targets of their jumps, without padding."""
    found = []
    for insn in code:
        if is_padding(insn):
            continue
        text, address = insn.text, insn.address + by
        if insn.target is not None:
            distance = address + len(insn.data) - _DISTANCE_BYTES
            text = f"{insn.name} {elsewhere.get(distance, insn.target + by):x}"
        found.append(Instruction(address, insn.data, text))
    return found


def _known(parts: Sequence[Sequence[Instruction]], codes: Sequence[Code]) -> Iterator[Branch]:
    known = {code.address for code in codes}
    for branch in branches_of(parts):
        # A jump to a function of the kernel has the distance 0 in the file.
        if branch.address in known and branch.next != branch.target:
            yield branch


def _lines(
    path: Path, section: str, code: Sequence[Instruction]
) -> Mapping[int, tuple[tuple[str, str, int], ...]]:
    asked = "\n".join(f"{insn.address:#x}" for insn in code)
    done = run(
        ["addr2line", "-a", "-i", "-f", "-j", section, "-e", path],
        stdin=asked,
        deadline=Deadline.after(_ADDR2LINE_S),
    )
    return parse_addr2line(done.stdout)


def _source(named: str, module: Path, sources: Path | None) -> SourceFile | None:
    """Return the file that DWARF names, None when it is none of the module's own sources.

    What the harness builds has names that begin in the folder of the sources; DWARF puts the
    kernel's folder before them, where there is no such file.
    """
    path = Path(named)
    if "/include/" in named or named.startswith("??"):
        return None
    for folder in (sources, module.parent):
        if folder is None:
            continue
        if path.is_relative_to(folder):
            return _read(str(path.relative_to(folder)), path)
        for number in range(1, len(path.parts)):
            inside = Path(*path.parts[number:])
            if (folder / inside).is_file():
                return _read(str(inside), folder / inside)
    if path.suffix == ".h":
        return None
    return _read(os.path.relpath(named) if path.is_file() else named, path)


def _read(name: str, path: Path) -> SourceFile:
    try:
        text = path.read_text(errors="replace")
    except OSError:
        text = ""
    return SourceFile(name=name, text=tuple(text.splitlines()))


def _long_enough(source: SourceFile, places: Sequence[Place]) -> SourceFile:
    """Return a source with a text for each line that has code."""
    last = max((place.line for place in places if place.file == source.name), default=0)
    missing = min(last, _MOST_LINES) - len(source.text)
    return SourceFile(name=source.name, text=(*source.text, *("",) * max(0, missing)))
