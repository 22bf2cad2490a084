# SPDX-License-Identifier: GPL-2.0-only
"""Which memory the kernel reads and writes in phases of a trial, as QEMU's plugin notes it.

Two stretches of code of which none writes what the other one reads or writes give the same in
either order. What interrupts do is not noted, nor what user space gives and gets. Who changes code,
unmaps memory or interrupts other CPUs meets everybody.
"""

from __future__ import annotations

import bisect
import ctypes
import itertools
import mmap
import re
from array import array
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Self

from harness.errors import HarnessError
from harness.observer.shared_file import MOST_POINTS, Flag, Head, Kind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from harness.observer.image import Image
    from harness.vm.guest.plugin import Plugin

_ROOM = 1 << 22
_PAGE = 4096
_WORD = (1 << 45) - 1
_STORE, _CPU = 1 << 45, 1 << 46
_ALL, _INTERRUPTS = 0, 1
_CANONICAL = 0xFFFF << 48
# Of vmalloc() and of modules (Documentation/arch/x86/x86_64/mm.rst): the next one who allocates
# some gets the same addresses in another run.
_ALLOCATED = ((0xFFFFC90000000000, 0xFFFFE90000000000), (0xFFFFFFFFA0000000, 0xFFFFFFFFFF000000))
_NO_MEMORY = frozenset({_ALL, _INTERRUPTS})
# arch/x86/include/asm/idtentry.h and arch/x86/entry/entry_64.S
_INTERRUPT = re.compile(r"asm_(sysvec_\w+|common_interrupt|spurious_interrupt|exc_nmi)")
_INTERRUPT_END = "native_irq_return_iret"
# Which instructions others execute, which memory is there, and what they do at once, are no memory.
_MEETS_ALL = ("__text_poke", "remove_vm_area", "stop_machine_cpuslocked")
# These ask another CPU for something, and it makes a difference whether that takes interrupts.
_IPI = ("smp_call_function_single", "smp_call_function_many_cond", "generic_exec_single")


@dataclass
class Touched:
    """Words of memory, by their addresses divided by eight."""

    reads: set[int] = field(default_factory=set)
    writes: set[int] = field(default_factory=set)

    def add(self, accesses: Iterable[int]) -> None:
        """Add accesses, as the plugin writes them."""
        for access in accesses:
            (self.writes if access & _STORE else self.reads).add(access & _WORD)

    def __ior__(self, other: Touched) -> Self:
        self.reads |= other.reads
        self.writes |= other.writes
        return self

    def with_read(self, address: int) -> Touched:
        """Return the same, and that this address is read."""
        return Touched(self.reads | {address >> 3 & _WORD}, self.writes)

    @property
    def meets_all(self) -> bool:
        """Whether what was done concerns all CPUs, whatever they read and write."""
        return _ALL in self.writes

    def meets(self, accesses: Iterable[int]) -> bool:
        """Return whether one of these writes what is read or written here, or reads what is."""
        writes, reads = self.writes, self.reads
        for access in accesses:
            word = access & _WORD
            if access & _STORE:
                if word in writes or word in reads or word == _ALL:
                    return True
            elif word in writes:
                return True
        return False


def existing(accesses: Iterable[int], mapped: Sequence[tuple[int, int]]) -> Iterator[int]:
    """Yield the accesses without those to memory that whoever made them has allocated.

    Of vmalloc() and for modules, that is. ``mapped`` are the ranges of addresses in use before, in
    their order.
    """
    starts = [start for start, _ in mapped]
    for access in accesses:
        address = (access & _WORD) << 3 | _CANONICAL
        below = bisect.bisect_right(starts, address) - 1
        is_mapped = below >= 0 and address < mapped[below][1]
        if is_mapped or not any(start <= address < end for start, end in _ALLOCATED):
            yield access


def touched_before(accesses: Sequence[int], lock: int) -> Touched:
    """Return which memory was touched before a lock was taken, which lies at this address; or all.

    What concerns all CPUs is left out.
    """
    taken = lock >> 3 & _WORD | _STORE
    before = itertools.takewhile(lambda access: access & (_WORD | _STORE) != taken, accesses)
    touched = Touched()
    touched.add(access for access in before if access & _WORD not in _NO_MEMORY)
    return touched


def notes_accesses(plugin: Plugin) -> bool:
    """Return whether this QEMU's plugin can say which CPU reads and writes something."""
    return not Head.from_buffer_copy(plugin.head).flags & Flag.CPU_BY_GS


def unseen(image: Image) -> tuple[str, ...]:
    """Return by which functions a kernel may concern all CPUs unseen: it has no such symbols.

    The compiler may have put them into their callers, or made variants of them.
    """
    return tuple(name for name in (*_MEETS_ALL, *_IPI) if not image.symbols.named(name))


def noting(plugin: Plugin, image: Image, passages: Iterable[int] = ()) -> Plugin:
    """Return a plugin that notes accesses too, and where CPU 0 comes by some instructions.

    Raises HarnessError for a kernel without symbols.
    """
    head = Head.from_buffer_copy(plugin.head)
    symbols = image.symbols
    points = [(each.address, each.kind) for each in head.points[: head.n_points]]
    points += [(address, Kind.PASSAGE) for address in passages]
    kinds = dict.fromkeys(_MEETS_ALL, Kind.MEETS_ALL) | dict.fromkeys(_IPI, Kind.IPI)
    kinds[_INTERRUPT_END] = Kind.INTERRUPT_END
    kinds |= {name: Kind.INTERRUPT for name in symbols.names() if _INTERRUPT.fullmatch(name)}
    for name, kind in kinds.items():
        points += [(symbol.address, kind) for symbol in symbols.named(name)]
    if not symbols.named(_INTERRUPT_END):
        raise HarnessError("it is not known where this kernel's interrupts end")
    if len(points) > MOST_POINTS:
        raise HarnessError(f"the plugin observes at most {MOST_POINTS} points, not {len(points)}")
    for number, (address, kind) in enumerate(sorted(points)):
        head.points[number].address, head.points[number].kind = address, kind
    head.n_points = len(points)
    head.flags |= Flag.ACCESSES
    head.accesses_at = -(-plugin.size // _PAGE) * _PAGE
    head.accesses_max = _ROOM
    size = head.accesses_at + _ROOM * ctypes.sizeof(ctypes.c_uint64)
    return replace(plugin, head=bytes(head), size=size)


class AccessFile:
    """The accesses in the shared file of a guest that stands still. Raises OSError."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def begin(self) -> int:
        """Begin to note them; return how many were noted before."""
        return self._set(1)

    def end(self) -> int:
        """Note no more; return how many accesses were noted."""
        return self._set(0)

    def read(
        self, start: int, end: int, *, cpu: int, at: Sequence[int] = ()
    ) -> tuple[array[int], ...]:
        """Return the accesses of CPU 0 or 1 with such numbers, in parts that end ``at`` numbers.

        What comes after the last of these is left out; without any, all is one part. Raises
        HarnessError when there was no room for all.
        """
        if end > _ROOM:
            raise HarnessError(f"{end} accesses to memory were noted, with room for {_ROOM}")
        found = array("Q")
        with self.path.open("rb") as file:
            head = Head.from_buffer_copy(file.read(ctypes.sizeof(Head)))
            file.seek(head.accesses_at + start * found.itemsize)
            found.frombytes(file.read((end - start) * found.itemsize))
        wanted = _CPU if cpu else 0
        places = pairwise(number - start for number in (start, *(at or (end,))))
        return tuple(
            array("Q", (access for access in found[low:high] if access & _CPU == wanted))
            for low, high in places
        )

    def _set(self, phase: int) -> int:
        with (
            self.path.open("r+b") as file,
            mmap.mmap(file.fileno(), ctypes.sizeof(Head)) as view,
        ):
            head = Head.from_buffer(view)
            try:
                head.phase = phase
                return int(head.n_accesses)
            finally:
                # The view cannot be closed while it is used.
                del head
