# SPDX-License-Identifier: GPL-2.0-only
"""What a transition costs, by the number of tasks and of functions."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

from harness.deadline import wait_until
from harness.errors import HarnessError
from harness.livepatch.waiting import QUICK_S, TRANSITION_S, scaled
from harness.observer.cost_results import CostKind, CostLock, CostPhase
from harness.tools.costs import points as at
from harness.tools.costs.arithmetic import line
from harness.tools.costs.figures import (
    ATTEMPTS,
    TASK_LOCK,
    Finding,
    transition_name,
    transition_what,
    vain_name,
)
from harness.tools.costs.steps import Hold, StepReader, Work

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from harness.tools.costs.guest import CostGuest
    from harness.tools.costs.points import CostPoints

_PATCH, _TARGET = "klp_test_many", "klp_target_many"
_HOLD, _GATE = "/sys/kernel/klp_many/hold", 5
# The kernel waits for RCU for each function that it unpatches.
_MANY_S = 20 * TRANSITION_S
_ROUNDS = 2
_VAIN = 3
_FEW = 10
_TRIES = (at.TRY, at.SWITCH)
_STEPS = {
    CostKind.PATCHING: (at.ENABLE, at.HOOK, at.INIT, at.START, at.TRY, at.SWITCH, at.COMPLETE),
    CostKind.UNPATCHING: (at.INIT, at.START, at.TRY, at.SWITCH, at.UNHOOK, at.COMPLETE),
}

Samples = list[tuple[float, float]]
"""Places, and the heights there."""


class _Watcher:
    """Reads what a transition did when it has ended."""

    def __init__(self, guest: CostGuest, points: CostPoints) -> None:
        self._guest = guest
        self._reader = StepReader(points)

    def skip(self) -> None:
        """Take no note of what has happened until now."""
        self._reader.take(self._guest.events())

    def until(self, step: str, times: int = 1) -> Work:
        """Return the work until that step has ended so many times; raises HarnessError."""
        found: list[Work] = []

        def ended() -> bool:
            found.append(self._reader.take(self._guest.events()))
            return sum(each.name == step for work in found for each in work.steps) >= times

        if not wait_until(ended, scaled(self._guest.machine, _MANY_S), interval_s=0.1):
            raise HarnessError(f"{step}() was not seen to end")
        return joined(found)


def joined(works: Iterable[Work]) -> Work:
    """Return stretches of work as one."""
    parts = tuple(works)
    return Work(
        steps=tuple(step for work in parts for step in work.steps),
        holds=tuple(hold for work in parts for hold in work.holds),
        waits=sum((work.waits for work in parts), start=type(parts[0].waits)()),
    )


def measure_transitions(
    guest: CostGuest, points: CostPoints, sleepers: Sequence[int], functions: Sequence[int]
) -> Iterator[Finding]:
    """Yield the figures of transitions as they come, the fewest tasks first."""
    guest.livepatch.load_target(_TARGET)
    watcher = _Watcher(guest, points)
    # What runs for the first time may have to be initialized.
    list(_cycle(guest, watcher, 0, 1, rounds=1))
    for number in sleepers:
        guest.crowd(number)
        for count in functions:
            yield from _cycle(guest, watcher, number, count, rounds=_ROUNDS if count == 1 else 1)
        yield _in_vain(guest, watcher, number)


def _cycle(
    guest: CostGuest, watcher: _Watcher, sleepers: int, functions: int, *, rounds: int
) -> Iterator[Finding]:
    """Load and unload a livepatch of so many functions; yield a figure for each direction."""
    tasks = guest.tasks()
    works: dict[CostKind, list[Work]] = {CostKind.PATCHING: [], CostKind.UNPATCHING: []}
    for _ in range(rounds):
        watcher.skip()
        deadline = scaled(guest.machine, _MANY_S)
        patch = guest.livepatch.load(_PATCH, wait=True, deadline=deadline, functions=functions)
        works[CostKind.PATCHING].append(watcher.until(at.COMPLETE))
        watcher.skip()
        patch.disable(deadline=deadline)
        works[CostKind.UNPATCHING].append(watcher.until(at.COMPLETE))
        patch.unload(deadline)
    for kind, done in works.items():
        yield transition(kind, done, sleepers=sleepers, functions=functions, tasks=tasks)


def transition(
    kind: CostKind, works: Sequence[Work], *, sleepers: int, functions: int, tasks: int
) -> Finding:
    """Return the figure of a transition that was made as often as there are works."""
    steps = _STEPS[kind]
    return Finding(
        figure=transition_name(kind, sleepers, functions),
        kind=kind,
        what=transition_what(kind, functions, tasks),
        values=tuple(float(work.of(*steps)) for work in works),
        tasks=tasks,
        functions=functions,
        phases=tuple(
            CostPhase(name=step, value=round(statistics.median(work.of(step) for work in works)))
            for step in steps
        ),
        locks=locks(works[-1]),
        waits=sum(works[-1].waits.values()),
    )


def locks(work: Work) -> tuple[CostLock, ...]:
    """Return the locks that were held, and how long at most.

    A task's own lock, and that of its runqueue, are held while the kernel tries to switch it.
    """
    found = [_lock(name, [hold for hold in work.holds if hold.lock == name]) for name in at.LOCKS]
    tries = [step.own for step in work.steps if step.name == at.SWITCH]
    found.append(_lock(TASK_LOCK, [Hold(lock=TASK_LOCK, own=own, passed=own) for own in tries]))
    return tuple(lock for lock in found if lock is not None)


def _lock(name: str, held: Sequence[Hold]) -> CostLock | None:
    if not held:
        return None
    return CostLock(
        name=name,
        times=len(held),
        longest=max(hold.own for hold in held),
        passed=max(hold.passed for hold in held),
    )


def attempts(work: Work) -> list[int]:
    """Return what each attempt to switch all tasks cost, in their order."""
    found, tasks = [], 0
    for step in work.steps:
        if step.name == at.SWITCH:
            tasks += step.own
        elif step.name == at.TRY:
            found.append(tasks + step.own)
            tasks = 0
    return found


def _in_vain(guest: CostGuest, watcher: _Watcher, sleepers: int) -> Finding:
    """Hold a transition by one task; return what each attempt to switch that one costs."""
    guest.gates.close(_GATE)
    holder = guest.machine.spawn("cat", _HOLD)
    guest.gates[_GATE].await_task(holder.pid)
    tasks = guest.tasks()
    watcher.skip()
    patch = guest.livepatch.load(_PATCH, functions=1)
    work = watcher.until(at.TRY, times=1 + _VAIN)
    guest.gates.open(_GATE)
    holder.next_line(scaled(guest.machine, QUICK_S))
    patch.wait_complete()
    patch.disable()
    patch.unload()
    return Finding(
        figure=vain_name(sleepers),
        kind=CostKind.ATTEMPT,
        what=f"an attempt in vain beside {tasks:,} tasks",
        values=tuple(float(each) for each in attempts(work)[1 : 1 + _VAIN]),
        tasks=tasks,
        functions=1,
    )


def slopes(findings: Iterable[Finding]) -> Iterator[Finding]:
    """Yield what each task and each function adds, as far as there are figures of two sizes."""
    found = [each for each in findings if each.tasks is not None]
    for name, what in ATTEMPTS.items():
        for count, samples in _samples(name, found):
            if len({x for x, _ in samples}) > 1:
                of = "" if count is None else f", {count} function{'s' if count > 1 else ''}"
                yield Finding(
                    figure=name if count is None else f"{name}-{count}-functions",
                    kind=CostKind.ATTEMPT,
                    what=f"{what}{of}",
                    values=(line(samples)[0],),
                    functions=count,
                )


def _samples(name: str, found: Sequence[Finding]) -> Iterator[tuple[int | None, Samples]]:
    """Yield the places and heights that a slope goes through, by the number of functions."""
    kind = CostKind.PATCHING if name in ("attempt-task", "patch-function") else CostKind.UNPATCHING
    if name == "attempt-vain-task":
        vain = [each for each in found if each.kind is CostKind.ATTEMPT]
        yield None, [(each.tasks or 0, statistics.median(each.values)) for each in vain]
    elif name.endswith("-task"):
        for count in sorted({each.functions or 0 for each in found}):
            yield (
                count,
                [
                    (
                        each.tasks or 0,
                        sum(phase.value for phase in each.phases if phase.name in _TRIES),
                    )
                    for each in found
                    if each.kind is kind and each.functions == count
                ],
            )
    else:
        fewest = min((each.tasks or 0 for each in found), default=0)
        yield (
            None,
            [
                (each.functions or 0, statistics.median(each.values))
                for each in found
                if each.kind is kind and (each.tasks or 0) < fewest + _FEW
            ],
        )
