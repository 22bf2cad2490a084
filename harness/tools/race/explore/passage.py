# SPDX-License-Identifier: GPL-2.0-only
"""Which points an action passes, and what the kernel reads and writes between them.

Between two points at which A touches nothing that B touches, it does not matter where A is held.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.observer.accesses import Touched

if TYPE_CHECKING:
    from array import array
    from collections.abc import Sequence

    from harness.tools.race.explore.pairs import Pair, State
    from harness.tools.race.explore.points import Point

_ORDERS = 2


@dataclass(frozen=True)
class Passage:
    """The points that A passes when it acts alone, each once, in their order.

    ``accesses`` has, for each, what CPU 0 has read and written since the one before; it is empty
    when that was not noted.
    """

    points: tuple[Point, ...]
    accesses: tuple[array[int], ...] = ()

    def alike(self, touched: Touched | None) -> frozenset[Point]:
        """Return the points at which A is for B where it is at the one before.

        ``touched`` is what B touches; None: that is not known.
        """
        if touched is None or touched.meets_all or not self.accesses:
            return frozenset()
        return frozenset(
            point
            for number, (point, accesses) in enumerate(zip(self.points, self.accesses, strict=True))
            if number and not touched.meets(accesses)
        )


def thinned(points: Sequence[Point]) -> tuple[int, ...]:
    """Return the numbers of points without those at which a CPU stands as at the one before.

    The entry of a function comes right after its call: one of the two is enough.
    """
    kept: list[int] = []
    for number, point in enumerate(points):
        before = points[kept[-1]] if kept else None
        if before is not None and point.is_entry and before.callee == point.function:
            continue
        kept.append(number)
    return tuple(kept)


class Touching:
    """What the B of each pair touches, and the passages of actions. Several threads may use it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_b: dict[str, tuple[Touched, int]] = {}
        self._taken: set[str] = set()
        self._passages: dict[tuple[State, tuple[str, ...], bool, bool], Passage] = {}

    def wants(self, pair: Pair) -> bool:
        """Whether B has not been looked at in both orders: it may do other things behind A."""
        with self._lock:
            if str(pair) in self._taken:
                return False
            return self._by_b.get(str(pair), (None, 0))[1] < _ORDERS

    def add(self, pair: Pair, accesses: Sequence[int]) -> None:
        """Add what B has touched in an order."""
        with self._lock:
            touched, orders = self._by_b.get(str(pair), (Touched(), 0))
            touched.add(accesses)
            self._by_b[str(pair)] = touched, orders + 1

    def take(self, pair: Pair) -> Touched | None:
        """Return what B touches, if both orders were looked at, and forget it."""
        with self._lock:
            self._taken.add(str(pair))
            touched, orders = self._by_b.pop(str(pair), (None, 0))
        return touched if orders >= _ORDERS else None

    def passage(self, pair: Pair, *, dense: bool) -> Passage | None:
        """Return the passage of A, if a pair that begins in the same state has it."""
        with self._lock:
            return self._passages.get(_key(pair, dense=dense))

    def keep(self, pair: Pair, passage: Passage, *, dense: bool) -> None:
        """Keep the passage of A until the state is dropped."""
        with self._lock:
            self._passages[_key(pair, dense=dense)] = passage

    def drop(self, state: State) -> None:
        """Forget what is of a state."""
        with self._lock:
            self._passages = {
                key: passage for key, passage in self._passages.items() if key[0] != state
            }


def _key(pair: Pair, *, dense: bool) -> tuple[State, tuple[str, ...], bool, bool]:
    return pair.state, pair.steps(pair.a), pair.a.by_any, dense
