# SPDX-License-Identifier: GPL-2.0-only
"""Which functions a livepatch patches, read from its klp_patch, klp_object and klp_func structures.

Their sizes change from kernel to kernel; the fields that a module's author fills come first and
have not moved since 5.1 (include/linux/livepatch.h). In a .ko each pointer among them is a
relocation, so arrays are followed by their relocations and no size is needed:

====================  =======================  ==========================================
klp_patch             +0 mod (__this_module)   +8 objs, points to data; +16 states, points to
                                               data; +24 replace, one byte
klp_object            +0 name, to a string     +8 funcs, points to data; callbacks to code
klp_func              +0 old_name, to string   +8 new_func, points to code; +16 old_sympos
klp_state             +0 id                    +8 version; 24 bytes each, the last one empty
====================  =======================  ==========================================
"""

from __future__ import annotations

import bisect
import itertools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from harness.vm.elf.elf_file import EXEC, STT_OBJECT, WRITE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.vm.elf.elf_file import ElfFile, Relocation

_R_X86_64_64 = 1
NEW_FUNC = 8
"""Offset of new_func in a klp_func."""

SYMPOS = 16
"""Offset of old_sympos in a klp_func."""

STATES = 16
"""Offset of states in a klp_patch."""

REPLACE = 24
"""Offset of replace in a klp_patch."""

_STATE_BYTES = 24
# A klp_func has 152 bytes since 5.1, more where a kobject has more; a klp_object is larger.
_LEAST_ENTRY_BYTES = 144


@dataclass(frozen=True, kw_only=True)
class PatchedFunction:
    """One klp_func. ``object`` is ``vmlinux`` or a module; ``sympos`` 0: the name is unique."""

    object: str
    name: str
    sympos: int


@dataclass(frozen=True, kw_only=True)
class SystemState:
    """One klp_state: something of the system that the patch has changed, and in which version."""

    id: int
    version: int


@dataclass(frozen=True, kw_only=True)
class PatchContents:
    """A klp_patch: its objects in the module's order, some without functions, and all functions.

    ``replace`` and ``states`` are as the file has them; a module may change them when it runs.
    ``list_faults`` describes the lists that do not end where they should: entries follow the empty
    one, which the kernel never reads, or there is no empty one.
    """

    objects: tuple[str, ...]
    functions: tuple[PatchedFunction, ...]
    replace: bool = False
    states: tuple[SystemState, ...] = ()
    list_faults: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class FunctionPlace:
    """Where a klp_func is: a section by its number, offset and size in bytes."""

    section: int
    offset: int
    size: int
    function: PatchedFunction


@dataclass(frozen=True, kw_only=True)
class ObjectPlace:
    """Where a klp_object is, and its functions. ``name`` is ``vmlinux`` or that of a module."""

    section: int
    offset: int
    size: int
    name: str
    functions: tuple[FunctionPlace, ...]


@dataclass(frozen=True, kw_only=True)
class PatchLayout:
    """Where a klp_patch is, what it points to, and what is in it."""

    section: int
    offset: int
    objects: tuple[ObjectPlace, ...]
    contents: PatchContents


class _NotStatic(Exception):
    """The structures are filled when the module runs."""


class _Pointer(NamedTuple):
    """Where a relocation points: a section and an offset, or a symbol of another module."""

    section: int | None
    offset: int
    symbol: str


def locate_patch(elf: ElfFile) -> PatchLayout | None:
    """Return where in the file the module's klp_patch is, and its content; None when it has none.

    That is so when the module fills its structures at run time, from parameters or, with
    kpatch-build and klp-build, from tables of their own. Raises DamagedElf.
    """
    data = _Data(elf)
    for section, offset in data.pointers_to("__this_module"):
        objects = data.pointer(section, offset + 8)
        if objects is not None and data.is_writable(objects.section):
            try:
                return _layout(data, objects, section, offset)
            except _NotStatic:
                return None
    return None


def function_lists(elf: ElfFile) -> list[tuple[int, int, int]]:
    """Return the arrays that look like lists of klp_func: section, first byte, end.

    Each begins with a name, has a pointer to code after each name, and nothing else.
    Raises DamagedElf.
    """
    data = _Data(elf)
    return [
        (section, start, start + size)
        for (section, start), size in data.objects()
        if size >= 2 * _LEAST_ENTRY_BYTES and data.is_function_list(section, start)
    ]


def _layout(data: _Data, array: _Pointer, section: int, patch: int) -> PatchLayout:
    faults: list[str] = []
    objects = tuple(_objects(data, array, faults))
    contents = PatchContents(
        objects=tuple(each.name for each in objects),
        functions=tuple(place.function for each in objects for place in each.functions),
        list_faults=tuple(faults),
    )
    if data.reaches(section, patch + REPLACE + 8):  # before 5.1 a patch had neither
        contents = replace(
            contents,
            replace=bool(data.word(section, patch + REPLACE) & 0xFF),
            states=tuple(_states(data, data.pointer(section, patch + STATES))),
        )
    return PatchLayout(section=section, offset=patch, objects=objects, contents=contents)


def _objects(data: _Data, array: _Pointer, faults: list[str]) -> Iterator[ObjectPlace]:
    # In an array of klp_object only funcs points to data: name is a string, callbacks are code.
    starts = [
        offset - 8
        for offset in data.relocated(array)
        if data.is_writable(data.pointer_at(array.section, offset).section)
    ]
    if not starts or array.section is None:
        raise _NotStatic
    entries = _entries(starts, array, data.size_at(array))
    for start in entries.listed:
        functions = data.pointer_at(array.section, start + 8)
        name = _object_name(data, array, start)
        yield ObjectPlace(
            section=array.section,
            offset=start,
            size=entries.size,
            name=name,
            functions=tuple(_functions(data, functions, name, entries.size, faults)),
        )
    end = array.offset + len(entries.listed) * entries.size
    if entries.behind and data.pointer(array.section, end) is not None:
        raise _NotStatic  # an object with a name: its functions are filled in when the module runs
    names = [_object_name(data, array, start) for start in entries.behind]
    faults += entries.faults("objects", names)


def _object_name(data: _Data, array: _Pointer, start: int) -> str:
    pointer = data.pointer(array.section, start)
    return "vmlinux" if pointer is None else data.string(pointer)


@dataclass(frozen=True, kw_only=True)
class _Entries:
    """The entries of an array that are not empty, by their offsets; ``size`` is that of each.

    ``listed`` are those that the kernel reads: klp_for_each_object_static() and
    klp_for_each_func_static() end at the first empty entry. ``ended`` is whether there is one.
    """

    size: int
    listed: tuple[int, ...]
    behind: tuple[int, ...]
    ended: bool

    def faults(self, what: str, names: list[str]) -> list[str]:
        """Return in words what is wrong; ``names`` are those of the entries behind the end."""
        if names:
            return [f"{', '.join(names)} behind the empty entry that ends the list of {what}"]
        return [] if self.ended else [f"no empty entry at the end of the list of {what}"]


def _entries(starts: list[int], array: _Pointer, total: int) -> _Entries:
    """Return the entries of an array of so many bytes, of which those at ``starts`` are filled.

    The file does not have the size of an entry. It divides the array and each start, and one entry
    at least is empty; the largest such size is taken.
    """
    offsets = [start - array.offset for start in starts]
    most = max(total // _LEAST_ENTRY_BYTES, 1)
    # Without room for an empty one, the list has no end.
    for count in itertools.chain(range(len(offsets) + 1, most + 1), [len(offsets)]):
        size = total // count
        if size and total % count == 0 and all(offset % size == 0 for offset in offsets):
            break
    else:
        raise _NotStatic
    listed = [start for place, start in enumerate(starts) if offsets[place] == place * size]
    return _Entries(
        size=size,
        listed=tuple(listed),
        behind=tuple(starts[len(listed) :]),
        ended=len(listed) * size < total,
    )


def _states(data: _Data, array: _Pointer | None) -> Iterator[SystemState]:
    if array is None:
        return
    last = array.offset + data.size_at(array) - _STATE_BYTES
    for offset in range(array.offset, last + 1, _STATE_BYTES):
        state = SystemState(
            id=data.word(array.section, offset),
            version=data.word(array.section, offset + 8) & 0xFFFFFFFF,
        )
        if state.id:
            yield state


def _functions(
    data: _Data, array: _Pointer, object_name: str, object_size: int, faults: list[str]
) -> Iterator[FunctionPlace]:
    offsets = data.relocated(array)
    # An array without pointers holds the end mark alone, or room that is filled at run time. One
    # klp_func is smaller than a klp_object (it has fewer fields), and two are larger.
    if not offsets and data.size_at(array) > object_size:
        raise _NotStatic
    names = {offset for offset in offsets if not data.is_code(array.section, offset)}
    codes = {offset for offset in offsets if data.is_code(array.section, offset)}
    if {name + 8 for name in names} != codes or array.section is None:
        raise _NotStatic
    if not names:
        return
    entries = _entries(sorted(names), array, data.size_at(array))
    for offset in entries.listed:
        yield FunctionPlace(
            section=array.section,
            offset=offset,
            size=entries.size,
            function=PatchedFunction(
                object=object_name,
                name=data.string(data.pointer_at(array.section, offset)),
                sympos=data.word(array.section, offset + SYMPOS),
            ),
        )
    behind = [data.string(data.pointer_at(array.section, offset)) for offset in entries.behind]
    faults += entries.faults(f"functions of {object_name}", [f"{name}()" for name in behind])


class _Data:
    """The module's sections, with the pointers that relocations will put into them."""

    def __init__(self, elf: ElfFile) -> None:
        self._elf = elf
        self._pointers: dict[int, dict[int, _Pointer]] = {}
        self._sizes: dict[tuple[int | None, int], int] = {}
        objects = [
            symbol
            for symbol in elf.symbols or ()
            if symbol.kind == STT_OBJECT and symbol.defined_in is not None
        ]
        elf.require_inside(objects)
        for symbol in objects:
            self._sizes[symbol.section, symbol.value] = symbol.size
        for number, relocations in elf.tables.items():
            target = elf.sections[number].info
            if self.is_writable(target):
                self._pointers.setdefault(target, {}).update(_pointers(relocations))
        # In their order, to find those of an array without a look at all others.
        self._offsets = {section: sorted(found) for section, found in self._pointers.items()}

    def pointers_to(self, symbol: str) -> Iterator[tuple[int, int]]:
        """Yield section and offset of each pointer to a symbol."""
        for section, pointers in self._pointers.items():
            for offset in self._offsets[section]:
                if pointers[offset].symbol == symbol:
                    yield section, offset

    def pointer(self, section: int | None, offset: int) -> _Pointer | None:
        return self._pointers.get(-1 if section is None else section, {}).get(offset)

    def pointer_at(self, section: int | None, offset: int) -> _Pointer:
        pointer = self.pointer(section, offset)
        if pointer is None:
            raise _NotStatic
        return pointer

    def relocated(self, array: _Pointer) -> list[int]:
        """Return the offsets of the pointers inside an array."""
        end = array.offset + self.size_at(array)
        offsets = self._offsets.get(-1 if array.section is None else array.section, [])
        return offsets[bisect.bisect_left(offsets, array.offset) : bisect.bisect_left(offsets, end)]

    def size_at(self, array: _Pointer) -> int:
        size = self._sizes.get((array.section, array.offset))
        if size is None:
            raise _NotStatic  # stripped of its symbols: the end of an array is unknown
        return size

    def objects(self) -> Iterator[tuple[tuple[int, int], int]]:
        """Yield section, offset and size of each thing in writable data that has a symbol."""
        for (section, start), size in self._sizes.items():
            if section is not None and self.is_writable(section):
                yield (section, start), size

    def is_function_list(self, section: int, start: int) -> bool:
        """Return whether an array holds names, each with a pointer to code behind it."""
        offsets = self.relocated(_Pointer(section=section, offset=start, symbol=""))
        codes = {offset for offset in offsets if self.is_code(section, offset)}
        names = [offset for offset in offsets if offset not in codes]
        return names[:1] == [start] and {name + 8 for name in names} == codes

    def reaches(self, section: int, end: int) -> bool:
        return end <= self._elf.sections[section].size

    def is_writable(self, section: int | None) -> bool:
        if section is None:
            return False
        flags = self._elf.sections[section].flags
        return bool(flags & WRITE) and not flags & EXEC

    def is_code(self, section: int | None, offset: int) -> bool:
        target = self.pointer_at(section, offset).section
        return target is None or bool(self._elf.sections[target].flags & EXEC)

    def string(self, pointer: _Pointer) -> str:
        if pointer.section is None or not self._elf.sections[pointer.section].in_file:
            raise _NotStatic
        return self._elf.string_at(self._elf.sections[pointer.section], pointer.offset)

    def word(self, section: int | None, offset: int) -> int:
        if section is None:
            raise _NotStatic
        if not self._elf.sections[section].in_file:
            return 0
        return int.from_bytes(self._elf.bytes_at(self._elf.sections[section], offset, 8), "little")


def _pointers(relocations: tuple[Relocation, ...]) -> Iterator[tuple[int, _Pointer]]:
    for offset, kind, symbol, addend in relocations:
        if kind == _R_X86_64_64:
            section = symbol.defined_in
            yield offset, _Pointer(section, symbol.value + addend, symbol.name)
