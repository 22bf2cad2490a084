# SPDX-License-Identifier: GPL-2.0-only
"""From samples to transitions: when each began and ended, and who switched in it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from harness.report.results import Mark, Phase, TaskHistory, TaskSwitch

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Direction = Literal["patching", "unpatching"]


@dataclass(frozen=True, kw_only=True)
class PatchChange:
    """What sysfs said of the patch from that moment on. None: the patch is not there."""

    at_s: float
    enabled: bool | None
    transition: bool | None

    @property
    def direction(self) -> Direction | None:
        """Where the running transition goes; None when none runs.

        ``enabled`` flips when a transition starts and when it is turned round
        (kernel/livepatch/core.c, enabled_store()).
        """
        if not self.transition:
            return None
        return "patching" if self.enabled else "unpatching"


def find_phases(changes: Sequence[PatchChange], tasks: Sequence[TaskHistory]) -> tuple[Phase, ...]:
    """Return the transitions in their order, with who was seen to switch in each.

    A transition that is turned round ends there, and another begins. ``changes`` are in the order
    of time.
    """
    return tuple(
        Phase(
            direction=direction,
            start_s=start_s,
            end_s=end_s,
            switches=tuple(_switches(direction, start_s, end_s, tasks)),
        )
        for direction, start_s, end_s in _stretches(changes)
    )


def find_marks(phases: Sequence[Phase]) -> tuple[Mark, ...]:
    """Return what to mark on the time axis: start, reversal and end of each transition."""
    marks: list[Mark] = []
    before: Phase | None = None
    for phase in phases:
        turned = before is not None and before.end_s == phase.start_s
        what = f"reversed: {phase.direction}" if turned else f"{phase.direction} starts"
        if turned:
            marks.pop()
        marks.append(Mark(at_s=phase.start_s, what=what))
        if phase.end_s is not None:
            marks.append(Mark(at_s=phase.end_s, what=f"{phase.direction} complete"))
        before = phase
    return tuple(marks)


def _stretches(
    changes: Sequence[PatchChange],
) -> Iterator[tuple[Direction, float, float | None]]:
    direction: Direction | None = None
    start_s = 0.0
    for change in changes:
        if change.direction == direction:
            continue
        if direction is not None:
            yield direction, start_s, change.at_s
        direction, start_s = change.direction, change.at_s
    if direction is not None:
        yield direction, start_s, None


def _switches(
    direction: Direction, start_s: float, end_s: float | None, tasks: Sequence[TaskHistory]
) -> Iterator[TaskSwitch]:
    """Yield who came to the state that the transition is for, in the order of time.

    ``before`` is -1 for a task that switched between two samples: the kernel tries all tasks as soon
    as a transition starts. A task that was born on the new side has not switched.
    """
    goal = 1 if direction == "patching" else 0
    found = []
    for task in tasks:
        before: int | None = None
        for change in task.changes:
            within = change.at_s >= start_s and (end_s is None or change.at_s <= end_s)
            if within and change.state == goal and before is not None:
                found.append(
                    TaskSwitch(
                        at_s=change.at_s,
                        tid=task.tid,
                        comm=task.comm,
                        kthread=task.kthread,
                        before=before,
                        after=goal,
                    )
                )
            before = change.state
    yield from sorted(found, key=lambda switch: switch.at_s)
