# SPDX-License-Identifier: GPL-2.0-only
"""The file that the plugin of QEMU shares with the harness: made before QEMU starts, read later.

Its layout is qemu-plugin/klp_observer.h; a unit test compares both. It can be read while the guest
runs, and after QEMU was killed: what QEMU had written is in the page cache.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import struct
from array import array
from enum import IntEnum, IntFlag
from typing import TYPE_CHECKING, NamedTuple

from harness.errors import HarnessError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

MAGIC = 0x3472767362706C6B
MOST_RANGES, MOST_POINTS, MOST_CPUS, MOST_FUNCTIONS, MOST_HOOKS = 1024, 8192, 64, 4096, 4
# Documentation/x86/x86_64/mm.rst: modules, to the end of the area that they may have.
MODULES = (0xFFFFFFFFA0000000, 0xFFFFFFFFFF000000)
_PAGE = 4096
_PACKED = struct.Struct("<QQQIHH")
_HIGH_HALF = 0xFFFFFFFF00000000
_AT_ONCE = 1 << 16
_U64 = ctypes.c_uint64


class Flag(IntFlag):
    """What the plugin does beside counting in ranges and reporting points."""

    CLOCK = 1
    MODULE_CALLS = 2
    BY_CALLBACK = 4
    MODULE_ENTRIES = 8
    SWITCHES = 16
    ACCESSES = 32
    CPU_BY_GS = 64


_NO_FLAGS = Flag(0)


class Kind(IntEnum):
    """What an event reports, or a point is to report."""

    POINT = 1
    STORE = 2
    SWITCH = 3
    BODY = 4
    RETURN = 5
    ENTRY = 6
    INTERRUPT = 7
    INTERRUPT_END = 8
    MEETS_ALL = 9
    IPI = 10
    FLAG = 11
    PASSAGE = 12


class Point(NamedTuple):
    """An instruction to report, by its address."""

    address: int
    kind: Kind


class FunctionFlag(IntFlag):
    """What is known of a function: a task that enters it leaves it by a return that is reported."""

    IS_LEFT = 1


class Function(NamedTuple):
    """Text of a function, by addresses, and where its body begins; 0: it has no event."""

    start: int
    end: int
    body: int
    flags: FunctionFlag


class Event(NamedTuple):
    """One event. ``clock`` counts the instructions of all CPUs, ``task`` is current or 0."""

    clock: int
    where: int
    task: int
    data: int
    cpu: int
    kind: int


class _Range(ctypes.LittleEndianStructure):
    _fields_ = (("start", _U64), ("end", _U64), ("first", _U64))


class _Point(ctypes.LittleEndianStructure):
    _fields_ = (("address", _U64), ("kind", _U64))


class _Function(ctypes.LittleEndianStructure):
    _fields_ = tuple((name, _U64) for name in ("start", "end", "body", "flags"))


class _Event(ctypes.LittleEndianStructure):
    _fields_ = (
        *((name, _U64) for name in ("clock", "task", "data")),
        ("where", ctypes.c_uint32),
        *((name, ctypes.c_uint16) for name in ("cpu", "kind")),
    )


class Head(ctypes.LittleEndianStructure):
    """The head of the file: struct klp_shared."""

    _fields_ = (
        *(
            (name, _U64)
            for name in (
                *("magic", "bytes", "flags", "n_ranges", "n_points", "counters_at", "events_at"),
                *("n_counters", "events_max", "module_start", "module_end", "return_thunk"),
                "table",
            )
        ),
        ("n_functions", _U64 * 2),
        ("hooks", _U64 * MOST_HOOKS),
        *((name, _U64) for name in ("accesses_at", "accesses_max", "phase")),
        *((name, _U64) for name in ("n_events", "n_repeated", "n_accesses", "clock")),
        ("current", _U64 * MOST_CPUS),
        ("cpu_base", _U64 * MOST_CPUS),
        ("ranges", _Range * MOST_RANGES),
        ("points", _Point * MOST_POINTS),
        ("functions", (_Function * MOST_FUNCTIONS) * 2),
    )


class DamagedFile(HarnessError):
    """A file that is shorter than its head says, or was made by another version."""


def make_head(
    *,
    ranges: Sequence[tuple[int, int]] = (),
    points: Sequence[Point] = (),
    flags: Flag = _NO_FLAGS,
    functions: Sequence[Function] = (),
    events: int = 0,
    return_thunk: int = 0,
    hooks: Sequence[int] = (),
) -> tuple[bytes, int]:
    """Return the file's first bytes, and its size.

    ``ranges`` have a counter for each of their instructions, and do not overlap; there is room for
    so many ``events``. Raises HarnessError when there are more ranges or points than fit.
    """
    if len(ranges) > MOST_RANGES or len(points) > MOST_POINTS:
        raise HarnessError(
            f"the plugin observes at most {MOST_RANGES} ranges and {MOST_POINTS} points, "
            f"not {len(ranges)} and {len(points)}",
            hint="ask for fewer files with --cover",
        )
    head = Head(
        magic=MAGIC,
        bytes=ctypes.sizeof(Head),
        flags=int(flags),
        n_ranges=len(ranges),
        n_points=len(points),
        events_max=events,
        module_start=MODULES[0],
        module_end=MODULES[1],
        return_thunk=return_thunk,
    )
    counters = 0
    for number, (start, end) in enumerate(sorted(ranges)):
        head.ranges[number] = _Range(start, end, counters)
        counters += end - start
    for number, point in enumerate(sorted(points)):
        head.points[number] = _Point(point.address, point.kind)
    _fill_table(head, 0, functions)
    if len(hooks) > MOST_HOOKS:
        raise HarnessError(f"this kernel has {len(hooks)} entries of ftrace, over {MOST_HOOKS}")
    for number, hook in enumerate(hooks):
        head.hooks[number] = hook
    head.n_counters = counters
    head.counters_at = _paged(ctypes.sizeof(Head))
    head.events_at = _paged(head.counters_at + 8 * counters)
    return bytes(head), head.events_at + ctypes.sizeof(_Event) * events


def _fill_table(head: Head, table: int, functions: Sequence[Function]) -> None:
    # Those for which there is no room are not known: each of their events is reported.
    known = sorted(functions)[:MOST_FUNCTIONS]
    for number, each in enumerate(known):
        head.functions[table][number] = _Function(*each)
    head.n_functions[table] = len(known)


def _paged(offset: int) -> int:
    return -(-offset // _PAGE) * _PAGE


class SharedFile:
    """A shared file of a QEMU that runs or is gone. Raises DamagedFile, and OSError."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("rb") as file:
            data = file.read(ctypes.sizeof(Head))
        self._size = path.stat().st_size
        if len(data) < ctypes.sizeof(Head):
            raise DamagedFile(f"{path} ends within its head, at {len(data)} bytes")
        head = Head.from_buffer_copy(data)
        if head.magic != MAGIC or head.bytes != ctypes.sizeof(Head):
            raise DamagedFile(f"{path} was not made by this version of klp-harness")
        counters_end = head.counters_at + 8 * head.n_counters
        events_end = head.events_at + ctypes.sizeof(_Event) * head.events_max
        if max(counters_end, events_end) > self._size:
            raise DamagedFile(f"{path} has {self._size} bytes, its head names {events_end}")
        if head.n_ranges > MOST_RANGES or head.n_points > MOST_POINTS:
            raise DamagedFile(f"{path} has a head that cannot be")
        self.head = head

    def counters(self, low: int = 0) -> Iterator[tuple[int, int]]:
        """Yield the address of each instruction that ran in a range, and how often.

        Ranges below ``low`` are left out.
        """
        with self.path.open("rb") as file:
            for place in self.head.ranges[: self.head.n_ranges]:
                if place.start < low:
                    continue
                at = self.head.counters_at + 8 * place.first
                size = 8 * (place.end - place.start)
                for offset, values in _written(file.fileno(), at, size):
                    first = place.start + offset // 8
                    for number, times in enumerate(values):
                        if times:
                            yield first + number, times

    @property
    def lost(self) -> int:
        """For how many events there was no room when the head was read."""
        return max(0, int(self.head.n_events) - int(self.head.events_max))

    def events(self, since: int = 0) -> Iterator[Event]:
        """Yield the events from that number on that there were when the head was read.

        One that was not finished, since QEMU was killed in it, is left out.
        """
        left = min(self.head.n_events, self.head.events_max) - since
        numbers = self._cpu_numbers()
        with self.path.open("rb") as file:
            file.seek(self.head.events_at + since * _PACKED.size)
            while left > 0:
                data = file.read(min(left, _AT_ONCE) * _PACKED.size)
                if len(data) < _PACKED.size:
                    return
                whole = data[: len(data) // _PACKED.size * _PACKED.size]
                for clock, task, stored, where, cpu, kind in _PACKED.iter_unpack(whole):
                    if kind:
                        number = numbers.get(cpu, cpu)
                        yield Event(clock, where | _HIGH_HALF, task, stored, number, kind)
                left -= _AT_ONCE

    def _cpu_numbers(self) -> dict[int, int]:
        """Return the numbers of CPUs by the plugin's own, where these are others.

        The areas of the CPUs' variables are in the order of the CPUs (pcpu_embed_first_chunk() in
        mm/percpu.c); that of the first CPU while it boots is in the kernel's image, behind them.
        """
        bases = [base for base in self.head.cpu_base if base]
        return {bases.index(base): number for number, base in enumerate(sorted(bases))}


def count_events(path: Path) -> int:
    """Return how many events a file has, those too for which there is no room; raises OSError."""
    with path.open("rb") as file:
        file.seek(Head.n_events.offset)
        return int.from_bytes(file.read(8), "little")


def _written(file: int, start: int, size: int) -> Iterator[tuple[int, array[int]]]:
    """Yield the numbers in a part of a file, without its holes, and where in it they begin."""
    at = start
    while at < start + size:
        try:
            begin = os.lseek(file, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            return  # a hole to the end
        if begin >= start + size:
            return
        end = min(os.lseek(file, begin, os.SEEK_HOLE), start + size)
        # Holes begin and end with blocks of the file system, of any size.
        begin -= (begin - start) % 8
        values = array("Q")
        values.frombytes(os.pread(file, (end - begin) // 8 * 8, begin))
        yield begin - start, values
        at = end


def write_functions(path: Path, functions: Sequence[Function]) -> None:
    """Say anew what is known of the functions in a file, while QEMU runs; raises OSError.

    The plugin then leaves out what repeats an entry into one of them (qemu-plugin/klp_repeats.h).
    """
    with path.open("r+b") as file, mmap.mmap(file.fileno(), ctypes.sizeof(Head)) as view:
        head = Head.from_buffer(view)
        try:
            following = head.table + 1
            _fill_table(head, following % 2, functions)
            head.table = following
        finally:
            # The view cannot be closed while it is used.
            del head
