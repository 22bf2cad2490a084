# SPDX-License-Identifier: GPL-2.0-only
"""From a recorded timeline to the fields of reports, in seconds since recording began. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.livepatch.transition_log import Measure
from harness.report.run_results import (
    Attempt,
    Callback,
    HeldTask,
    Mark,
    MarkKind,
    Phase,
    StateChange,
    TaskHistory,
    TaskSwitch,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from harness.livepatch.callbacks import CallbackEvent
    from harness.livepatch.timeline import Leg, Switch, Timeline
    from harness.livepatch.transition_log import Attempt as KernelAttempt

_S_PER_US = 1e-6
_DIGITS = 4
_MEASURES = {
    Measure.SIGNAL: (MarkKind.SIGNAL, "fake signal to remaining tasks"),
    Measure.FORCE: (MarkKind.FORCE, "forced"),
}


def seconds(t_us: int, timeline: Timeline) -> float:
    """Return a time of the guest's monotonic clock as seconds since recording began."""
    return round((t_us - timeline.start_us) * _S_PER_US, _DIGITS)


def task_histories(timeline: Timeline) -> tuple[TaskHistory, ...]:
    """Return every task with all its patch states; one that never dies has its last state twice.

    So a drawing reaches the end of the recording.
    """
    histories = []
    for track in timeline.tasks:
        changes = [
            StateChange(
                at_s=seconds(change.t_us, timeline),
                state=None if change.state is None else int(change.state),
            )
            for change in track.changes
        ]
        if changes and changes[-1].state is not None:
            end_s = seconds(timeline.end_us, timeline)
            changes.append(StateChange(at_s=end_s, state=changes[-1].state))
        histories.append(
            TaskHistory(
                tid=track.tid, comm=track.comm, kthread=track.kthread, changes=tuple(changes)
            )
        )
    return tuple(histories)


def phases(timeline: Timeline, patch: str | None = None) -> tuple[Phase, ...]:
    """Return the transitions of a patch or of all, a reversed one as two, with their switches."""
    return tuple(
        _phase(timeline, transition.patch, leg, timeline.switches(transition))
        for transition in timeline.transitions(patch)
        for leg in transition.legs
    )


def transition_marks(timeline: Timeline, patch: str | None = None) -> tuple[Mark, ...]:
    """Return the start, reversals and end of each transition of a patch, or of all."""
    marks = []
    for transition in timeline.transitions(patch):
        first, *reversals = transition.legs
        last = transition.legs[-1]
        what = f"{first.direction.value} starts"
        marks.append(_mark(timeline, first.start_us, what, MarkKind.STARTS))
        marks += [
            _mark(timeline, leg.start_us, f"reversed: {leg.direction.value}", MarkKind.REVERSED)
            for leg in reversals
        ]
        if transition.end_us is not None:
            what = f"{last.direction.value} complete"
            marks.append(_mark(timeline, transition.end_us, what, MarkKind.COMPLETE))
    return tuple(marks)


def measure_marks(measures: Iterable[tuple[int, Measure]], timeline: Timeline) -> tuple[Mark, ...]:
    """Return a mark for each round of fake signals and each force."""
    return tuple(
        _mark(timeline, t_us, what, kind)
        for t_us, (kind, what) in ((t_us, _MEASURES[each]) for t_us, each in measures)
    )


def attempts(found: Iterable[KernelAttempt], timeline: Timeline) -> tuple[Attempt, ...]:
    """Return the kernel's attempts that did not switch all, with those that it left."""
    return tuple(
        Attempt(
            at_s=seconds(attempt.us, timeline),
            held=tuple(
                HeldTask(tid=task.tid, comm=task.comm, why=task.why.value, function=task.function)
                for task in attempt.held
            ),
        )
        for attempt in found
    )


def callbacks(events: Iterable[CallbackEvent], timeline: Timeline) -> tuple[Callback, ...]:
    """Return callbacks at the times of the kernel log, which runs with the monotonic clock."""
    return tuple(
        Callback(
            at_s=seconds(event.us, timeline),
            patch=event.patch,
            phase=event.phase.value,
            object=event.object,
            state=event.state,
        )
        for event in events
    )


def _phase(timeline: Timeline, patch: str, leg: Leg, switches: Iterable[Switch]) -> Phase:
    end_us = timeline.end_us if leg.end_us is None else leg.end_us
    return Phase(
        patch=patch,
        direction=leg.direction.value,
        start_s=seconds(leg.start_us, timeline),
        end_s=None if leg.end_us is None else seconds(leg.end_us, timeline),
        switches=tuple(
            TaskSwitch(
                at_s=seconds(switch.t_us, timeline),
                tid=switch.task.tid,
                comm=switch.task.comm,
                kthread=switch.task.kthread,
                before=int(switch.before),
                after=int(switch.after),
            )
            for switch in switches
            if switch.after is leg.direction.target and leg.start_us <= switch.t_us <= end_us
        ),
    )


def _mark(timeline: Timeline, t_us: int, what: str, kind: MarkKind) -> Mark:
    return Mark(at_s=seconds(t_us, timeline), what=what, kind=kind)
