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
# By calls: objects and pages that other work does not lose in a stretch.
_LEAST_GROWN = 8
_LEAST_PAGES_GROWN = 48
_LEAST_A_CALL = 0.1
_FAR_MORE = 4


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


def count_vmalloc_areas(text: str) -> int:
    """Return how many areas /proc/vmallocinfo lists that somebody still has.

    With CONFIG_VMAP_STACK those of ended threads are freed late, many at a time: until then they
    are listed as unpurged.
    """
    return sum("unpurged" not in line for line in text.splitlines())


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


def find_growth_by_calls(
    without: Sequence[Mapping[str, int]],
    with_patch: Sequence[tuple[Mapping[str, int], Mapping[str, int]]],
) -> tuple[str, ...]:
    """Return in words what grows with the calls of a patched function.

    ``without`` is what grew in stretches of the same work before the patch; ``with_patch`` what
    grew with it, and the calls by function. It has to grow in every stretch, by far more than
    without the patch, and by a tenth of the calls of a function or more.
    """
    if not with_patch:
        return ()
    found: list[tuple[float, str]] = []
    called = {name for _, calls in with_patch for name in calls}
    for name in sorted(set.intersection(*(set(growth) for growth, _ in with_patch))):
        values = [growth[name] for growth, _ in with_patch]
        least = _LEAST_PAGES_GROWN if name.endswith("pages") else _LEAST_GROWN
        usual = max((growth.get(name, 0) for growth in without), default=0)
        if name in _BUSY or min(values) < max(least, _FAR_MORE * usual):
            continue
        for function in sorted(called):
            numbers = [calls.get(function, 0) for _, calls in with_patch]
            if all(
                number > 0 and value >= _LEAST_A_CALL * number
                for value, number in zip(values, numbers, strict=True)
            ):
                each = sum(values) / sum(numbers)
                found.append(
                    (
                        abs(1 - each),
                        f"{name}: {sum(values)} more in {sum(numbers)} calls of {function}()",
                    )
                )
    # One that grows by one for each call of a function is named first.
    return tuple(text for _, text in sorted(found))


def _grows(values: Sequence[int], cycles: Sequence[int], name: str) -> bool:
    least = _LEAST_PAGES if name.endswith("pages") else _LEAST
    return all(
        after - before >= least * (to - since)
        for (since, before), (to, after) in pairwise(zip(cycles, values, strict=True))
    )
