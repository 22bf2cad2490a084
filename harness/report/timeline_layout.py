# SPDX-License-Identifier: GPL-2.0-only
"""The layout of a timeline's drawing: rows, spans, marks, in units of the drawing. Pure.

A task that was not seen to change its patch state has no row. Kernel threads that switched at the
same times share a row, and so do user tasks of one name when there are many.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.report.run_results import MarkKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from harness.report.run_results import (
        Attempt,
        Callback,
        HeldTask,
        Phase,
        RunResult,
        StateChange,
        TaskHistory,
    )

LABEL = 200.0
PLOT = 900.0
WIDTH = LABEL + PLOT + 20.0
AXIS = 26.0
LANE = 24.0
ROW = 18.0
_TICKS = 9
_MARGIN = 0.05
_LEAST_MARGIN_S = 0.02
_SAME_S = 0.03
_OWN_ROWS = 40
_NAMED = 12
# About the width of a letter, at the size of the drawing.
_LETTER = 6.6
_TIMES = "\u00d7"
_SIGN = {
    MarkKind.REVERSED: "R",
    MarkKind.SIGNAL: "S",
    MarkKind.FORCE: "F",
    MarkKind.NOTE: "i",
}
_STATE = {0: ("unpatched", "unpatched (0)"), 1: ("patched", "patched (1)")}


@dataclass(frozen=True, kw_only=True)
class Span:
    """A part of a row in one colour; ``kind`` is its class in the drawing."""

    x: float
    width: float
    kind: str
    title: str
    text: str = ""


@dataclass(frozen=True, kw_only=True)
class Point:
    """A time, marked in a row or across all rows."""

    x: float
    kind: str
    title: str
    text: str = ""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row of a task or of several tasks, or a lane of events."""

    y: float
    label: str
    title: str
    spans: tuple[Span, ...] = ()
    points: tuple[Point, ...] = ()
    held_in: Span | None = None


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """A drawing. ``passing`` tasks were created and exited without a switch, and have no row."""

    height: float
    ticks: tuple[Point, ...]
    lines: tuple[Point, ...]
    lanes: tuple[Row, ...]
    rows: tuple[Row, ...]
    passing: int
    start_s: float
    end_s: float


@dataclass(frozen=True, kw_only=True)
class _Scale:
    start_s: float
    end_s: float

    def x(self, at_s: float) -> float:
        share = (at_s - self.start_s) / (self.end_s - self.start_s)
        return round(LABEL + PLOT * min(max(share, 0.0), 1.0), 2)


def lay_out(result: RunResult, *, alone: bool = False) -> Drawing | None:
    """Return the drawing of a recording; None when nothing was recorded.

    ``alone``: no two tasks share a row.
    """
    scale = _scale(result)
    if scale is None:
        return None
    lanes = _lanes(result, scale, top=AXIS)
    top = AXIS + LANE * len(lanes) + 6
    rows = _rows(result, scale, top=top, alone=alone)
    passing = sum(not has_moved(task) and was_in_transition(task) for task in result.tasks)
    return Drawing(
        height=top + ROW * len(rows) + 8,
        ticks=_ticks(scale),
        lines=tuple(
            Point(x=scale.x(mark.at_s), kind=mark.kind.value, title=_at(mark.at_s, mark.what))
            for mark in result.marks
        ),
        lanes=lanes,
        rows=rows,
        passing=passing,
        start_s=scale.start_s,
        end_s=scale.end_s,
    )


def _scale(result: RunResult) -> _Scale | None:
    marked = [mark.at_s for mark in result.marks]
    marked += [callback.at_s for callback in result.callbacks]
    ended = all(phase.end_s is not None for phase in result.phases)
    drawn = drawn_time(result.tasks, marked, ended=ended)
    return None if drawn is None else _Scale(start_s=drawn[0], end_s=drawn[1])


def drawn_time(
    tasks: Iterable[TaskHistory], marked: Sequence[float], *, ended: bool
) -> tuple[float, float] | None:
    """Return start and end of the time to draw, in s: the marks and a little around them.

    It reaches to the end of the recording when a transition has not ``ended``, or without marks.
    None: nothing was recorded.
    """
    times = [change.at_s for task in tasks for change in task.changes] + list(marked)
    if not times:
        return None
    start_s, end_s = min(times), max(times)
    if marked:
        margin_s = max(_MARGIN * (max(marked) - min(marked)), _LEAST_MARGIN_S)
        start_s = max(start_s, min(marked) - margin_s)
        end_s = min(end_s, max(marked) + margin_s) if ended else end_s
    return start_s, max(end_s, start_s + _LEAST_MARGIN_S)


def round_step(least_s: float) -> tuple[float, int]:
    """Return the next round number of seconds and how many digits it has after the point."""
    power = 10.0 ** math.floor(math.log10(least_s))
    step_s = next(step * power for step in (1, 2, 5, 10) if step * power >= least_s * 0.999)
    return step_s, max(0, -math.floor(math.log10(step_s)))


def has_moved(task: TaskHistory) -> bool:
    """Return whether a task was seen to switch, or to enter or leave a transition."""
    return len({change.state for change in task.changes} - {None}) > 1


def was_in_transition(task: TaskHistory) -> bool:
    """Return whether a task was seen during a transition at all."""
    return any(change.state in _STATE for change in task.changes)


def _ticks(scale: _Scale) -> tuple[Point, ...]:
    step_s, digits = round_step((scale.end_s - scale.start_s) / _TICKS)
    first, last = math.ceil(scale.start_s / step_s), math.floor(scale.end_s / step_s)
    return tuple(
        Point(
            x=scale.x(number * step_s),
            kind="tick",
            title="",
            text=f"{number * step_s:.{digits}f} s",
        )
        for number in range(first, last + 1)
    )


# -- lanes of events


def _lanes(result: RunResult, scale: _Scale, *, top: float) -> tuple[Row, ...]:
    legs = tuple(_leg(phase, scale) for phase in result.phases)
    marks = tuple(
        Point(
            x=scale.x(mark.at_s), kind=mark.kind.value, title=_at(mark.at_s, mark.what), text=sign
        )
        for mark in result.marks
        if (sign := _SIGN.get(mark.kind))
    )
    retries = tuple(_retry(attempt, scale) for attempt in result.attempts or ())
    called = tuple(_callback(callback, scale) for callback in result.callbacks)
    wanted: list[tuple[str, str, tuple[Span, ...], tuple[Point, ...]]] = [
        ("transition", "each from its start or reversal to its end or reversal", legs, ()),
        ("reversed, signal, force", "R reversed, S fake signal, F forced, i note", (), marks),
        ("attempts", "attempts of the kernel that did not switch all tasks", (), retries),
        ("callbacks", "callbacks of the livepatch", (), called),
    ]
    lanes = [each for each in wanted if each[2] or each[3]]
    return tuple(
        Row(y=top + LANE * number, label=label, title=title, spans=spans, points=points)
        for number, (label, title, spans, points) in enumerate(lanes)
    )


def _leg(phase: Phase, scale: _Scale) -> Span:
    end_s = scale.end_s if phase.end_s is None else phase.end_s
    x = scale.x(phase.start_s)
    width = max(scale.x(end_s) - x, 1.0)
    arrow = "0 → 1" if phase.direction == "patching" else "1 → 0"
    took = f"{end_s - phase.start_s:.2f} s" + ("" if phase.end_s is not None else ", did not end")
    name = f"{phase.patch} " if phase.patch else ""
    text = f"{phase.direction} {arrow}"
    return Span(
        x=x,
        width=width,
        kind=phase.direction,
        title=f"{name}{text}: {phase.start_s:.2f} s to {end_s:.2f} s ({took}), "
        f"{_count(len(phase.switches), 'task')} switched",
        text=text if width > 8 * len(text) else "",
    )


def _retry(attempt: Attempt, scale: _Scale) -> Point:
    names = [f"{task.comm} ({task.tid}): {_reason(task)}" for task in attempt.held[:_NAMED]]
    if len(attempt.held) > _NAMED:
        names.append(f"and {len(attempt.held) - _NAMED} more")
    title = _at(attempt.at_s, f"{_count(len(attempt.held), 'task')} not switched")
    return Point(
        x=scale.x(attempt.at_s),
        kind="attempt",
        title="\n".join([title, *names]),
        text=str(len(attempt.held)),
    )


def _callback(callback: Callback, scale: _Scale) -> Point:
    state = "" if callback.state == "-" else f" ({callback.state})"
    what = f"{callback.patch}: {callback.phase} {callback.object}{state}"
    return Point(x=scale.x(callback.at_s), kind="callback", title=_at(callback.at_s, what))


# -- rows of tasks


def _rows(result: RunResult, scale: _Scale, *, top: float, alone: bool) -> tuple[Row, ...]:
    """Return the rows: first the tasks that slept in a patched function, then by thread id."""
    held: dict[int, list[tuple[float, HeldTask]]] = defaultdict(list)
    for attempt in result.attempts or ():
        for task in attempt.held:
            held[task.tid].append((attempt.at_s, task))
    blockers = {tid for tid, times in held.items() if any(task.function for _, task in times)}
    moved = sorted((task for task in result.tasks if has_moved(task)), key=lambda task: task.tid)
    first = [[task] for task in moved if task.tid in blockers]
    user = [task for task in moved if task.tid not in blockers and not task.kthread]
    kernel = [task for task in moved if task.tid not in blockers and task.kthread]
    same_s = max(_SAME_S, (scale.end_s - scale.start_s) * _SAME_S / 10)
    if alone:
        groups = [*first, *([task] for task in user), *([task] for task in kernel)]
    else:
        many = len(user) > _OWN_ROWS
        users = _groups(user, same_s, by_name=True) if many else [[task] for task in user]
        groups = [*first, *users, *_groups(kernel, same_s, by_name=False)]
    return tuple(
        _row(group, held[group[0].tid] if len(group) == 1 else [], scale, top + ROW * number)
        for number, group in enumerate(groups)
    )


def _groups(
    tasks: Iterable[TaskHistory], same_s: float, *, by_name: bool
) -> list[list[TaskHistory]]:
    """Return the tasks in groups that switched at the same times, the largest first."""
    groups: list[list[TaskHistory]] = []
    for task in tasks:
        for group in groups:
            if (not by_name or group[0].comm == task.comm) and _alike(group[0], task, same_s):
                group.append(task)
                break
        else:
            groups.append([task])
    return sorted(groups, key=lambda group: -len(group))


def _alike(first: TaskHistory, other: TaskHistory, same_s: float) -> bool:
    return len(first.changes) == len(other.changes) and all(
        one.state == two.state and abs(one.at_s - two.at_s) <= same_s
        for one, two in zip(first.changes, other.changes, strict=True)
    )


def _row(
    group: Sequence[TaskHistory], held: Sequence[tuple[float, HeldTask]], scale: _Scale, y: float
) -> Row:
    task = group[0]
    name = f"[{task.comm}]" if task.kthread else task.comm
    if len(group) == 1:
        label = title = f"{task.tid} {name}"
    else:
        counts = Counter(each.comm for each in group)
        label = (
            f"{len(group)} {_TIMES} {name}" if len(counts) == 1 else f"{len(group)} kernel threads"
        )
        title = "\n".join(f"{each.tid} {each.comm}" for each in group[:_NAMED])
        if len(group) > _NAMED:
            title += f"\nand {len(group) - _NAMED} more"
    functions = [each.function for _, each in held if each.function]
    return Row(
        y=y,
        label=label,
        title=title,
        spans=tuple(_spans(label, task.changes, scale)),
        points=tuple(
            Point(
                x=scale.x(at_s),
                kind="held",
                title=_at(at_s, f"{label} was not switched: {_reason(each)}"),
            )
            for at_s, each in held
        ),
        held_in=_where([scale.x(at_s) for at_s, _ in held], functions),
    )


def _where(held_x: Sequence[float], functions: Sequence[str]) -> Span | None:
    """Return the text with the functions that a task slept in: after its marks, or before."""
    if not functions:
        return None
    text = "in " + ", ".join(f"{function}()" for function in dict.fromkeys(functions))
    width = _LETTER * len(text) + 8
    x = max(held_x) + 8
    if x + width > LABEL + PLOT:
        x = max(min(held_x) - 8 - width, LABEL)
    return Span(x=x, width=width, kind="held-in", title=text, text=text)


def _spans(label: str, changes: Sequence[StateChange], scale: _Scale) -> Iterable[Span]:
    ordered = sorted(changes, key=lambda change: change.at_s)
    for change, following in itertools.pairwise(ordered):
        if change.state is None or following.at_s < scale.start_s or change.at_s > scale.end_s:
            continue
        x = scale.x(change.at_s)
        kind, words = _STATE.get(change.state, ("idle", "in no transition (-1)"))
        yield Span(
            x=x,
            width=max(scale.x(following.at_s) - x, 0.5),
            kind=kind,
            title=f"{label}: {words}, {change.at_s:.2f} s to {following.at_s:.2f} s "
            f"({following.at_s - change.at_s:.2f} s)",
        )


def _reason(task: HeldTask) -> str:
    return f"in {task.function}()" if task.function else task.why


def _at(at_s: float, what: str) -> str:
    return f"{at_s:.2f} s: {what}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
