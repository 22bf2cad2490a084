# SPDX-License-Identifier: GPL-2.0-only
"""Parts that the compiler split off a function, and in which a task may sleep.

GCC moves what it takes for unlikely to a part of its own, `f.cold`, far from f. A transition looks
for one range of addresses on each stack, that of f (klp_check_stack_func() in
kernel/livepatch/transition.c), so a task that sleeps below f.cold counts as outside of f. Whether
something sleeps is read from risky.toml; what that does not name is not known to sleep.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from harness.tools.verify.code_graph import CodeGraph
from harness.vm.elf.elf_file import EXEC
from harness.vm.elf.klp_structs import NEW_FUNC, locate_patch
from harness.vm.elf.module_info import open_module, readable
from harness.vm.elf.vmlinux import called_from

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from harness.tools.verify.code_graph import Function, Place
    from harness.vm.elf.elf_file import ElfFile
    from harness.vm.elf.vmlinux import Vmlinux

_RISKY = Path(__file__).with_name("risky.toml")
# Before 8.1, GCC numbered them: f.cold.3.
_COLD = re.compile(r"(?P<whole>.+?)\.cold(?:\.\d+)?\Z")
# A symbol that livepatch itself resolves (module-elf-format.rst).
_KLP_SYMBOL = re.compile(r"\.klp\.sym\.[^.]+\.(?P<name>[^,]+),\d+\Z")


@dataclass(frozen=True, kw_only=True)
class ColdPart:
    """``function`` has a part from which ``sleeps`` is called, which may sleep."""

    function: str
    sleeps: str


def cold_bodies(path: Path) -> tuple[ColdPart, ...]:
    """Return the new functions of a livepatch that have such a part.

    What the part calls in the module itself is looked at, too. Raises UsageError when the file is
    no module or damaged.
    """
    with readable(path):
        elf = open_module(path).elf
        return tuple(_found(elf, CodeGraph(elf), set(_bodies(elf))))


def cold_functions(path: Path, names: Iterable[str]) -> tuple[ColdPart, ...]:
    """Return those functions of a target module that have such a part; raises as `cold_bodies`."""
    wanted = set(names)
    with readable(path):
        elf = open_module(path).elf
        code = CodeGraph(elf)
        places = {place for place, each in code.starts.items() if wanted & set(each.names)}
        return tuple(_found(elf, code, places))


def cold_in_vmlinux(image: Vmlinux, vmlinux: Path, names: Iterable[str]) -> tuple[ColdPart, ...]:
    """Return those functions of the kernel that have such a part, by its own calls alone.

    Raises HarnessError when the image cannot be read.
    """
    patterns = _sleepers()
    found = []
    for name in names:
        for part in image.named(f"{name}.cold"):
            called = called_from(vmlinux, part)
            sleeps = _first(patterns, (each for call in called for each in image.names_at(call)))
            if sleeps is not None:
                found.append(ColdPart(function=name, sleeps=sleeps))
    return tuple(found)


def _bodies(elf: ElfFile) -> Iterator[Place]:
    """Yield where the patch's new functions begin."""
    layout = locate_patch(elf)
    if layout is None:
        return
    entries = {
        (place.section, place.offset + NEW_FUNC)
        for target in layout.objects
        for place in target.functions
    }
    for number, relocations in elf.tables.items():
        source = elf.sections[number].info
        for offset, _, symbol, addend in relocations:
            if (source, offset) in entries and symbol.defined_in is not None:
                yield symbol.section, symbol.value + addend


def _found(elf: ElfFile, code: CodeGraph, wholes: set[Place]) -> Iterator[ColdPart]:
    names = {name for place in wholes if place in code.starts for name in code.starts[place].names}
    parts = [(name, part) for part in code.functions for name in _wholes(part) if name in names]
    if not parts:
        return
    patterns, leaves = _sleepers(), _calls_out(elf, code)
    references = _references(elf, code)
    for name, part in parts:
        reached = code.reached_from([(part.section, part.start)], references)
        called = (each for place in sorted(reached) for each in leaves.get(place, ()))
        sleeps = _first(patterns, called)
        if sleeps is not None:
            yield ColdPart(function=name, sleeps=sleeps)


def _wholes(part: Function) -> Iterator[str]:
    """Yield the names of the functions that this is split off from."""
    for name in part.names:
        match = _COLD.match(name)
        if match is not None:
            yield match["whole"]


def _references(elf: ElfFile, code: CodeGraph) -> Mapping[Place | None, set[Place]]:
    """Return which code uses which function of the module."""
    found: dict[Place | None, set[Place]] = {}
    for source, offset, target in code.relocations():
        if elf.sections[source].flags & EXEC and target in code.starts:
            found.setdefault(code.function_at(source, offset), set()).add(target)
    for place, target in code.near_calls:
        found.setdefault(place, set()).add(target)
    return found


def _calls_out(elf: ElfFile, code: CodeGraph) -> Mapping[Place | None, list[str]]:
    """Return what each function uses of the kernel and of other modules, by name."""
    found: dict[Place | None, list[str]] = {}
    for number, relocations in elf.tables.items():
        source = elf.sections[number].info
        if not (source and elf.sections[source].flags & EXEC):
            continue
        for offset, _, symbol, _ in relocations:
            if symbol.defined_in is None and symbol.name:
                match = _KLP_SYMBOL.match(symbol.name)
                name = match["name"] if match is not None else symbol.name
                found.setdefault(code.function_at(source, offset), []).append(name)
    return found


def _first(patterns: tuple[str, ...], names: Iterable[str]) -> str | None:
    """Return the first of the names that may sleep."""
    return next(
        (name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)), None
    )


def _sleepers() -> tuple[str, ...]:
    return tuple(tomllib.loads(_RISKY.read_text(encoding="utf-8"))["sleep"]["functions"])
