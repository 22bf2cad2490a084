# SPDX-License-Identifier: GPL-2.0-only
"""Stops a replay where tasks, modules and livepatches get their names, and reads them."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from elftools.elf.elffile import ELFFile

from harness.errors import HarnessError, UsageError
from harness.observer.debug_objects import compile_again, find_commands
from harness.observer.image import image_of
from harness.tools.race.story.facts import (
    ModuleFreed,
    ModuleFunction,
    ModuleLoaded,
    PatchEnabled,
    Replacement,
    StopAt,
    TaskBorn,
    TaskNamed,
    Told,
)
from harness.vm.guest.gdb_stub import GdbStub
from harness.vm.host.temporary import temporary_folder

if TYPE_CHECKING:
    from pathlib import Path

    from harness.deadline import Deadline
    from harness.tools.race.story.facts import Fact
    from harness.vm.guest.gdb_stub import Stop
    from harness.vm.kernel.kernel import Kernel

_FIELDS = {
    "task_struct": ("pid", "comm"),
    "module": ("name", "kallsyms"),
    "mod_kallsyms": ("symtab", "num_symtab", "strtab"),
    "klp_patch": ("mod", "objs", "replace"),
    "klp_object": ("name", "funcs"),
    "klp_func": ("old_name", "new_func"),
}
_SOURCE = "kernel/livepatch/transition.c"
_SYMBOL = struct.Struct("<IBBHQQ")
_FUNCTION = 2
_COMM, _NAME = 16, 56
_MOST = 4096
"""Of symbols, objects and functions: what is more is no list."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Where fields are in structures of a kernel, and how large those are, in bytes."""

    offsets: dict[str, dict[str, int]]
    sizes: dict[str, int]


def read_layout(kernel: Kernel, deadline: Deadline) -> Layout:
    """Return the layout by DWARF of a file that is compiled again. Raises HarnessError."""
    (command,) = find_commands(kernel, (_SOURCE,))
    offsets: dict[str, dict[str, int]] = {}
    sizes: dict[str, int] = {}
    with temporary_folder("dwarf") as folder:
        made = compile_again(command, kernel, folder, deadline)
        with made.open("rb") as file:
            for unit in ELFFile(file).get_dwarf_info().iter_CUs():
                for die in unit.get_top_DIE().iter_children():
                    name = _name(die)
                    if die.tag != "DW_TAG_structure_type" or name not in _FIELDS:
                        continue
                    if not die.has_children or name in offsets:
                        continue
                    sizes[name] = die.attributes["DW_AT_byte_size"].value
                    offsets[name] = {
                        _name(child): child.attributes["DW_AT_data_member_location"].value
                        for child in die.iter_children()
                        if _name(child) in _FIELDS[name]
                    }
    for name, fields in _FIELDS.items():
        if set(offsets.get(name, {})) != set(fields):
            raise HarnessError(f"DWARF of {kernel.describe()} does not have all of {name}")
    return Layout(offsets=offsets, sizes=sizes)


def _name(die: object) -> str:
    attributes = getattr(die, "attributes", {})
    return attributes["DW_AT_name"].value.decode() if "DW_AT_name" in attributes else ""


def stop_addresses(kernel: Kernel) -> dict[int, StopAt]:
    """Return where a replay is stopped. Raises UsageError for a kernel without symbols."""
    image = image_of(kernel)
    found = {
        image.symbols.named(each)[0].address: each for each in StopAt if image.symbols.named(each)
    }
    missing = [each for each in StopAt if each not in found.values()]
    if missing:
        raise UsageError(
            f"what {kernel.describe()} did cannot be followed: it has no {missing[0]}()",
            hint="the kernels 5.10 to 7.2 are known, and others that are like them",
        )
    return found


def collect(
    socket: Path, layout: Layout, stops: dict[int, StopAt], deadline: Deadline
) -> list[Told]:
    """Run a replay that waits for gdb to its end; return what was read at each stop."""
    told = []
    with GdbStub(socket, deadline) as gdb:
        reader = _Reader(gdb, layout)
        for address in stops:
            gdb.break_at(address)
        while (stop := gdb.go_on()) is not None:
            if stop.address in stops:
                fact = reader.read(stops[stop.address], stop)
                told.append(Told(address=stop.address, fact=fact))
    return told


class _Reader:
    """Reads the structures that the first argument of a function points to."""

    def __init__(self, gdb: GdbStub, layout: Layout) -> None:
        self._gdb = gdb
        self._layout = layout

    def read(self, at: StopAt, stop: Stop) -> Fact:
        first = stop.first
        match at:
            case StopAt.BORN:
                pid = int.from_bytes(
                    self._gdb.memory(self._at(first, "task_struct", "pid"), 4), "little"
                )
                comm = self._gdb.text(self._at(first, "task_struct", "comm"), _COMM)
                return TaskBorn(task=first, pid=pid, comm=comm)
            case StopAt.NAMED:
                return TaskNamed(task=first, comm=self._gdb.text(stop.second, _COMM)[: _COMM - 1])
            case StopAt.LOADED:
                return ModuleLoaded(name=self._module(first), functions=self._functions(first))
            case StopAt.ENABLED:
                return self._patch(first)
            case StopAt.FREED:
                return ModuleFreed(name=self._module(first))

    def _at(self, address: int, structure: str, field: str) -> int:
        return address + self._layout.offsets[structure][field]

    def _pointer(self, address: int, structure: str, field: str) -> int:
        return self._gdb.pointer(self._at(address, structure, field))

    def _module(self, module: int) -> str:
        return self._gdb.text(self._at(module, "module", "name"), _NAME)

    def _functions(self, module: int) -> tuple[ModuleFunction, ...]:
        symbols = self._pointer(module, "module", "kallsyms")
        table = self._pointer(symbols, "mod_kallsyms", "symtab")
        names = self._pointer(symbols, "mod_kallsyms", "strtab")
        number = self._pointer(symbols, "mod_kallsyms", "num_symtab") & 0xFFFFFFFF
        if number > _MOST:
            raise HarnessError(f"the module {self._module(module)} has {number} symbols")
        data = self._gdb.memory(table, number * _SYMBOL.size)
        return tuple(
            ModuleFunction(name=self._gdb.text(names + name), start=value, end=value + size)
            for name, info, _, section, value, size in _SYMBOL.iter_unpack(data)
            if info & 0xF == _FUNCTION and section and size
        )

    def _patch(self, patch: int) -> PatchEnabled:
        module = self._pointer(patch, "klp_patch", "mod")
        replaces_all = self._gdb.memory(self._at(patch, "klp_patch", "replace"), 1) != b"\0"
        place = self._pointer(patch, "klp_patch", "objs")
        found = []
        for _ in range(_MOST):
            functions = self._pointer(place, "klp_object", "funcs")
            name = self._pointer(place, "klp_object", "name")
            if not functions and not name:
                break
            owner = self._gdb.text(name) if name else "vmlinux"
            if functions:
                found += self._replacements(functions, owner)
            place += self._layout.sizes["klp_object"]
        return PatchEnabled(
            name=self._module(module), replaces_all=replaces_all, functions=tuple(found)
        )

    def _replacements(self, place: int, owner: str) -> list[Replacement]:
        found = []
        for _ in range(_MOST):
            name = self._pointer(place, "klp_func", "old_name")
            if not name:
                break
            new = self._pointer(place, "klp_func", "new_func")
            found.append(Replacement(place=place, object=owner, name=self._gdb.text(name), new=new))
            place += self._layout.sizes["klp_func"]
        return found
