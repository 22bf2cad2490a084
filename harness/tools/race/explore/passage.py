# SPDX-License-Identifier: GPL-2.0-only
"""Which points an action passes, and what the kernel reads and writes between them.

Between two points at which A touches nothing that B touches, it does not matter where A is held.
"""

from __future__ import annotations

import threading
from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.observer.accesses import Touched, touched_before
from harness.tools.race.explore.actions import HELD_STATES

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from harness.tools.race.explore.pairs import Pair, State
    from harness.tools.race.explore.points import Point


@dataclass(frozen=True)
class Passage:
    """The points that A passes when it acts alone, each once, in their order.

    ``accesses`` has, for each, what CPU 0 has read and written since the one before; it is empty
    when that was not noted. ``count`` is the address of the number that says whether CPU 0 can go
    to another task, on a kernel that preempts.
    """

    points: tuple[Point, ...]
    accesses: tuple[array[int], ...] = ()
    count: int | None = None

    def alike(self, touched: Touched | None) -> frozenset[Point]:
        """Return the points at which A is for B where it is at the one before.

        ``touched`` is what B touches; None: that is not known.
        """
        if touched is None or touched.meets_all or not self.accesses:
            return frozenset()
        if self.count is not None:
            touched = touched.with_read(self.count)
        return frozenset(
            point
            for number, (point, accesses) in enumerate(zip(self.points, self.accesses, strict=True))
            if number and not touched.meets(accesses)
        )

    def clear(self, at: Point, then: Sequence[Point], touched: Touched) -> int:
        """Return at how many of the points ``then`` A has touched none of it since ``at``."""
        numbers = {point: number for number, point in enumerate(self.points)}
        last = numbers.get(at)
        if not self.accesses or last is None:
            return 0
        for count, point in enumerate(then):
            number = numbers.get(point, -1)
            if number < last or any(map(touched.meets, self.accesses[last + 1 : number + 1])):
                return count
            last = number
        return len(then)


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
        self._first: dict[tuple[State, tuple[str, ...]], array[int]] = {}
        self._behind: dict[Pair, array[int]] = {}
        self._taken: set[Pair] = set()
        self._passages: dict[tuple[State, tuple[str, ...], bool, bool], Passage] = {}

    def wants(self, pair: Pair, *, b_first: bool) -> bool:
        """Whether B is to be looked at in that order: it may do other things behind A.

        What it does first is the same in all pairs with it that begin in that state.
        """
        with self._lock:
            if pair in self._taken:
                return False
            return _key_of_b(pair) not in self._first if b_first else pair not in self._behind

    def add(self, pair: Pair, accesses: Iterable[int], *, b_first: bool) -> None:
        """Add what B has touched in that order."""
        # In their order: what comes before a lock counts apart.
        found = array("Q", dict.fromkeys(accesses))
        with self._lock:
            if b_first:
                self._first[_key_of_b(pair)] = found
            else:
                self._behind[pair] = found

    def take(self, pair: Pair) -> Touched | None:
        """Return what B touches, if both orders were looked at; then they are wanted no more."""
        with self._lock:
            self._taken.add(pair)
            both = self._both(pair)
        touched = Touched()
        for accesses in both:
            touched.add(accesses)
        return touched if both else None

    def clear(self, pair: Pair, lock: int, at: Point, then: Sequence[Point]) -> int:
        """Return at how many of the points ``then`` A has touched, since ``at``, nothing of B's.

        Of the memory that B touches before it takes a lock, that is. 0 where a transition is open:
        its worker takes locks on B's CPU, so it is not known when B did.
        """
        if pair.state.name in HELD_STATES:
            return 0
        with self._lock:
            both = self._both(pair)
            passages = [self._passages.get(_key(pair, dense=dense)) for dense in (False, True)]
        touched = Touched()
        for accesses in both:
            touched |= touched_before(accesses, lock)
        passage = next((each for each in passages if each and at in each.points), None)
        return passage.clear(at, then, touched) if both and passage is not None else 0

    def _both(self, pair: Pair) -> tuple[array[int], ...]:
        """Return what B touches in the two orders; nothing when one is not known."""
        first, behind = self._first.get(_key_of_b(pair)), self._behind.get(pair)
        return () if first is None or behind is None else (first, behind)

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
            self._first = {key: each for key, each in self._first.items() if key[0] != state}
            self._behind = {key: each for key, each in self._behind.items() if key.state != state}


def _key_of_b(pair: Pair) -> tuple[State, tuple[str, ...]]:
    return pair.state, pair.steps(pair.b)


def _key(pair: Pair, *, dense: bool) -> tuple[State, tuple[str, ...], bool, bool]:
    return pair.state, pair.steps(pair.a), pair.a.by_any, dense
