# SPDX-License-Identifier: GPL-2.0-only
"""What each step of a transition executed, from the events of a guest with one CPU. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from harness.observer.shared_file import Kind
from harness.observer.task_clock import TaskClock
from harness.tools.costs.points import COLD, MUTEX

if TYPE_CHECKING:
    from collections.abc import Iterable

    from harness.observer.shared_file import Event
    from harness.tools.costs.points import CostPoints


@dataclass(frozen=True, kw_only=True)
class Step:
    """One call of a function of the core: the instructions that its task executed in it.

    What other steps executed that it called is not in ``own``.
    """

    name: str
    own: int


@dataclass(frozen=True, kw_only=True)
class Hold:
    """A lock that was held, for so many instructions of its holder, or of all CPUs (``passed``)."""

    lock: str
    own: int
    passed: int


@dataclass(frozen=True, kw_only=True)
class Work:
    """What a stretch of events shows: steps in the order in which they end, locks, waits."""

    steps: tuple[Step, ...]
    holds: tuple[Hold, ...]
    waits: Counter[str]

    def of(self, *names: str) -> int:
        """Return the instructions of all steps of these names."""
        return sum(step.own for step in self.steps if step.name in names)


@dataclass
class _Open:
    name: str
    since: int
    inner: int = 0


@dataclass
class _Held:
    task: int
    since: int
    clock: int


@dataclass
class _State:
    stacks: dict[int, list[_Open]] = field(default_factory=dict)
    held: dict[str, _Held] = field(default_factory=dict)


class StepReader:
    """Follows the events of one guest from the first to the last; ``take`` gives it the next."""

    def __init__(self, points: CostPoints) -> None:
        self._points = points
        self._clock = TaskClock(points.interrupts)
        self._state = _State()

    def take(self, events: Iterable[Event]) -> Work:
        """Return what these events show, which follow those of the call before."""
        steps: list[Step] = []
        holds: list[Hold] = []
        waits: Counter[str] = Counter()
        for event in events:
            own = self._clock.at(event)
            stack = self._state.stacks.setdefault(event.task, [])
            if event.kind == Kind.STORE:
                # Only what a step does: others take the same locks all the time.
                hold = self._lock(event, own, inside=bool(stack))
                if hold is not None:
                    holds.append(hold)
            elif event.kind == Kind.POINT:
                if event.where in self._points.steps:
                    stack.append(_Open(self._points.steps[event.where], own))
                elif event.where in self._points.ends:
                    steps += _close(stack, self._points.ends[event.where], own)
                elif event.where in self._points.waits and stack:
                    waits[self._points.waits[event.where]] += 1
        return Work(steps=tuple(steps), holds=tuple(holds), waits=waits)

    def _lock(self, event: Event, own: int, *, inside: bool) -> Hold | None:
        name = self._points.locks.get(event.data)
        if name is None:
            return None
        held = self._state.held.get(name)
        if event.where in self._points.acquires:
            if held is None and (inside or name == MUTEX):
                self._state.held[name] = _Held(event.task, own, event.clock)
            return None
        if held is None or held.task != event.task:
            return None
        del self._state.held[name]
        return Hold(lock=name, own=own - held.since, passed=event.clock - held.clock)


def _close(stack: list[_Open], name: str, own: int) -> list[Step]:
    """Close the step that has ended; those in it have ended as well."""
    if not stack or (name != COLD and all(each.name != name for each in stack)):
        return []
    found = []
    while stack:
        last = stack.pop()
        whole = own - last.since
        found.append(Step(name=last.name, own=whole - last.inner))
        if stack:
            stack[-1].inner += whole
        if name in (COLD, last.name):
            break
    return found
