# SPDX-License-Identifier: GPL-2.0-only
"""What grows from cycle to cycle: a leak is a slope, and no single step. Pure.

Objects are counted for each slab cache (/proc/slabinfo) after every cache was shrunk, so that what
the allocator keeps on its lists does not count.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_NUMBER = re.compile(r"[0-9]{1,18}")
# Caches that grow with use, whoever uses them: of files, names, tasks, page tables.
_BUSY = ("radix_tree_node", "maple_node", "vm_area_struct", "anon_vma", "filp", "task_struct")
_LEAST = 0.6
_LEAST_PAGES = 0.8
_FEW = 3


@dataclass(frozen=True, kw_only=True)
class Count:
    """What is in use after so many cycles: objects by cache, and other things by name."""

    cycles: int
    objects: Mapping[str, int]
    things: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class Growth:
    """Something that grows by ``each`` in every cycle, from one count to the other."""

    what: str
    each: float
    first: int
    last: int

    def __str__(self) -> str:
        return f"{self.what}: {self.first} to {self.last}, {self.each:.1f} in each cycle"


def read_slabinfo(text: str) -> dict[str, int]:
    """Return active objects by cache (Documentation: slabinfo(5), version 2.1)."""
    found = {}
    for line in text.splitlines()[2:]:
        fields = line.split()
        if len(fields) > 2 and _NUMBER.fullmatch(fields[1]):
            found[fields[0]] = int(fields[1])
    return found


def find_growth(counts: Sequence[Count]) -> tuple[Growth, ...]:
    """Return what has grown in every interval, by at least about one for each cycle.

    The first count is the one to compare with; fewer than three show nothing.
    """
    if len(counts) < _FEW:
        return ()
    first, last = counts[0], counts[-1]
    cycles = last.cycles - first.cycles
    found = []
    for kind in ("objects", "things"):
        series: list[Mapping[str, int]] = [getattr(count, kind) for count in counts]
        for name in sorted(set(series[0]) & set(series[-1])):
            values = [each.get(name, 0) for each in series]
            if name in _BUSY or not _grows(values, [count.cycles for count in counts], name):
                continue
            found.append(
                Growth(
                    what=name,
                    each=(values[-1] - values[0]) / cycles,
                    first=values[0],
                    last=values[-1],
                )
            )
    return tuple(sorted(found, key=lambda growth: -growth.each))


def _grows(values: Sequence[int], cycles: Sequence[int], name: str) -> bool:
    least = _LEAST_PAGES if name.endswith("pages") else _LEAST
    return all(
        after - before >= least * (to - since)
        for (since, before), (to, after) in pairwise(zip(cycles, values, strict=True))
    )
