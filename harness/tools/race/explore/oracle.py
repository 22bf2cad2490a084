# SPDX-License-Identifier: GPL-2.0-only
"""What is right: the outcomes of A and B one after the other, from the same state.

They are looked at lazily: the two orders first, and those with steps in between, or with a wait
until all has settled, when a trial gives something else.
"""

from __future__ import annotations

import errno
import threading
from collections import deque
from dataclasses import dataclass, replace
from itertools import chain, combinations
from typing import TYPE_CHECKING

from harness.tools.race.explore.results import FindingKind
from harness.tools.race.explore.seen import Move

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harness.tools.race.explore.seen import Order, Seen

# An action that gets one of these has done nothing, and may be tried again: something else was
# going on. No order has to give it.
_TRANSIENT = frozenset({errno.EBUSY, errno.EAGAIN})
# What a write gets whose attribute goes meanwhile, with its livepatch: another one, when the file
# was opened before.
_GONE = frozenset({errno.ENOENT, errno.ENODEV, errno.EINVAL})
_REPEATS = 2
_NOT_SETTLED, _IN_TRANSITION = "not settled", "in transition"
_LEFT_OVER = "a thread has a patch state, and there is no transition"


@dataclass(frozen=True)
class Wrong:
    """What is wrong with a trial: two of the same kind and signature are the same finding."""

    kind: FindingKind
    message: str
    details: tuple[str, ...] = ()

    @property
    def signature(self) -> tuple[FindingKind, str]:
        """By what it is recognized."""
        return self.kind, self.message


class Baselines:
    """The sequential outcomes of one pair. Several threads may use it."""

    def __init__(self, try_order: Callable[[Order], Seen], *, a: int, b: int) -> None:
        """``a`` and ``b`` are the numbers of their steps."""
        self._try = try_order
        self._a, self._b = a, b
        self._lock = threading.Lock()
        self._allowed: dict[tuple[object, ...], tuple[str, Seen]] = {}
        self._shorter: dict[Order, Seen] = {}
        self._more = deque(self._wider())

    def first(self) -> Iterator[tuple[Order, Seen, Wrong | None]]:
        """Yield the two orders, each with what is wrong with it by itself."""
        for order in self._plain():
            seen = self._take(order)
            yield order, seen, failure_of(seen)

    def judge(self, seen: Seen) -> Wrong | None:
        """Return what is wrong with a trial; None: an order gives the same."""
        failure = failure_of(seen)
        if failure is not None or self._is_allowed(seen):
            return failure
        with self._lock:
            while self._more and not self._is_allowed(seen):
                self._take(self._more[0])
                self._more.popleft()
            if self._is_allowed(seen) or self._is_without(seen):
                return None
        return Wrong(FindingKind.OUTCOME, f"in no order of A and B: {in_words(seen)}")

    def allowed(self) -> tuple[str, ...]:
        """Return the outcomes of the orders, in words."""
        with self._lock:
            return tuple(f"{order}: {in_words(seen)}" for order, seen in self._allowed.values())

    def _plain(self) -> tuple[Order, ...]:
        a, b = (Move.A,) * self._a, (Move.B,) * self._b
        return (a + b, b + a)

    def _wider(self) -> Iterator[Order]:
        """Yield the other orders: each is looked at when none before it gives what was seen."""
        first, second = (Move.A,) * self._a, (Move.B,) * self._b
        settled = ((*first, Move.SETTLE, *second), (*second, Move.SETTLE, *first))
        merged = (order for order in _merged(self._a, self._b) if order not in self._plain())
        slow = (_slow(order) for order in _merged(self._a, self._b))
        yield from (*settled, *merged, *dict.fromkeys(slow), *self._plain() * _REPEATS)

    def _take(self, order: Order) -> Seen:
        seen = self._try(order)
        if failure_of(seen) is None:
            self._allowed.setdefault(seen.outcome, (seen.plan, seen))
        return seen

    def _is_allowed(self, seen: Seen) -> bool:
        if seen.outcome in self._allowed:
            return True
        return any(_is_like(seen, allowed) for _, allowed in self._allowed.values())

    def _is_without(self, seen: Seen) -> bool:
        """Return whether it is as if the last steps, which were refused, had not been.

        Those of A, of B, or of both.
        """
        a, b = _done(seen.a_errors), _done(seen.b_errors)
        for steps in dict.fromkeys(((a, self._b), (self._a, b), (a, b))):
            if steps == (self._a, self._b):
                continue
            short = replace(
                seen, a_errors=seen.a_errors[: steps[0]], b_errors=seen.b_errors[: steps[1]]
            )
            for plain in _merged(*steps):
                for order in dict.fromkeys((plain, _slow(plain))):
                    if order not in self._shorter:
                        self._shorter[order] = self._try(order)
                    shorter = self._shorter[order]
                    if failure_of(shorter) is None and _is_like(short, shorter):
                        return True
        return False


def _slow(order: Order) -> Order:
    """Return an order with a wait, until all has settled, between any two steps."""
    return tuple(chain(order[:1], *((Move.SETTLE, move) for move in order[1:])))


def _is_like(seen: Seen, allowed: Seen) -> bool:
    """Return whether a trial is as an order, but for the errno of what has done nothing.

    ENOENT in the order is another one of _GONE when the file was opened before, and of _TRANSIENT
    while what removes it goes on.
    """
    if (seen.state, seen.problems) != (allowed.state, allowed.problems):
        return False
    pairs = list(zip(seen.a_errors, allowed.a_errors, strict=True))
    pairs += zip(seen.b_errors, allowed.b_errors, strict=True)
    return all(
        was == may or (may == errno.ENOENT and was in _GONE | _TRANSIENT) for was, may in pairs
    )


def _merged(a: int, b: int) -> Iterator[Order]:
    """Yield the orders of so many steps of A and of B, each action's in their own order."""
    for places in combinations(range(a + b), a):
        yield tuple(Move.A if at in places else Move.B for at in range(a + b))


def _done(errors: tuple[int, ...]) -> int:
    """Return how many steps there are before the last ones that were refused for a moment."""
    done = len(errors)
    while done and errors[done - 1] in _TRANSIENT:
        done -= 1
    return done


def failure_of(seen: Seen) -> Wrong | None:
    """Return what is wrong with a trial by itself, whatever the orders give."""
    if seen.verdict is not None:
        return Wrong(FindingKind.SPLAT, seen.verdict.message, seen.verdict.details)
    if seen.violation is not None:
        message = f"consistency is violated: {seen.violation}"
        return Wrong(FindingKind.VIOLATION, message, seen.violations)
    if seen.problems:
        return Wrong(FindingKind.BROKEN, _general(seen.problems[0]), seen.problems)
    if not seen.ended:
        return Wrong(FindingKind.STUCK, seen.stuck, seen.console[-20:])
    return None


def _general(problem: str) -> str:
    """Return a problem without what differs from trial to trial: threads and their numbers."""
    what, colon, rest = problem.partition(": ")
    if what == _NOT_SETTLED and colon:
        patches, _, _ = rest.partition(", patch state")
        return f"{what}: {patches.strip()}" if _IN_TRANSITION in patches else _LEFT_OVER
    return problem


def in_words(seen: Seen) -> str:
    """Return the outcome of a trial: the errors of A and B, and what there is."""
    text = f"A {_errors(seen.a_errors)}, B {_errors(seen.b_errors)}, {seen.state}"
    return f"{text}; {'; '.join(seen.problems)}" if seen.problems else text


def _errors(numbers: tuple[int, ...]) -> str:
    return "+".join(errno.errorcode.get(each, str(each)) if each else "0" for each in numbers)
