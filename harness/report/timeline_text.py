# SPDX-License-Identifier: GPL-2.0-only
"""Draws in the terminal which task was in which patch state when.

Told by characters, not by colours: it reads the same in a log. One row for each task; kernel
threads that switched alike share a row.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from harness.report.run_results import Mark, TaskHistory

_LABEL = 25
_ROWS = 40
_TICK_EVERY = 12
_MARGIN = 0.06
_LEAST_MARGIN_S = 0.02
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True, kw_only=True)
class Strokes:
    """The characters of a drawing."""

    unpatched: str
    patched: str
    idle: str
    absent: str

    def meaning(self) -> str:
        """Return in words what the characters stand for, with /proc/PID/patch_state's numbers."""
        return f"{self.unpatched} unpatched (0)  {self.patched} patched (1)  {self.idle} none (-1)"

    def of(self, state: int | None) -> str:
        """Return the character of a patch state; None is a task that does not exist."""
        match state:
            case 0:
                return self.unpatched
            case 1:
                return self.patched
            case None:
                return self.absent
            case _:
                return self.idle


UNICODE = Strokes(unpatched="░", patched="█", idle="─", absent=" ")
ASCII = Strokes(unpatched="0", patched="1", idle="-", absent=" ")
_STYLES = {UNICODE.unpatched: "yellow", UNICODE.patched: "green", UNICODE.idle: "dim"}


@dataclass(frozen=True, kw_only=True)
class _Scale:
    start_s: float
    end_s: float
    columns: int

    def column(self, at_s: float) -> int:
        span = self.end_s - self.start_s
        place = int((at_s - self.start_s) / span * self.columns)
        return min(max(place, 0), self.columns - 1)

    def edge_s(self, column: int) -> float:
        return self.start_s + (self.end_s - self.start_s) * (column + 1) / self.columns


def draw_timeline(
    tasks: Sequence[TaskHistory],
    marks: Sequence[Mark],
    *,
    width: int = 80,
    strokes: Strokes = UNICODE,
) -> list[Text]:
    """Return the lines of the picture, none wider than ``width`` (80 or what the terminal has).

    A column shows the last state in its stretch of time, so each change is one column exact.
    """
    times = [change.at_s for task in tasks for change in task.changes]
    times += [mark.at_s for mark in marks]
    if not times:
        return [Text("nothing was recorded")]
    scale = _make_scale(times, marks, columns=max(width, 60) - _LABEL - 1)
    lines = [_axis_line(scale), *_mark_lines(marks, scale)]
    lines += [_styled(label, cells) for label, cells in _rows(tasks, scale, strokes)]
    lines.append(Text(f"{'':{_LABEL}} {strokes.meaning()}"))
    lines += _legend(marks, width)
    return lines


def _make_scale(times: Sequence[float], marks: Sequence[Mark], *, columns: int) -> _Scale:
    """Return the stretch of time worth drawing: all marks, and a little before and after them."""
    start_s, end_s = min(times), max(times)
    if marks:
        first_s, last_s = min(mark.at_s for mark in marks), max(mark.at_s for mark in marks)
        margin_s = max(_MARGIN * (last_s - first_s), _LEAST_MARGIN_S)
        start_s = max(start_s, first_s - margin_s)
        # What has not ended is drawn to the end of the recording.
        settled = len(marks) > 1
        end_s = min(end_s, last_s + margin_s) if settled else end_s
    return _Scale(start_s=start_s, end_s=max(end_s, start_s + _LEAST_MARGIN_S), columns=columns)


def can_draw(encoding: str | None) -> Strokes:
    """Return the strokes that a stream of that encoding can carry."""
    try:
        (UNICODE.unpatched + UNICODE.patched + UNICODE.idle).encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return ASCII
    return UNICODE


def _rows(
    tasks: Sequence[TaskHistory], scale: _Scale, strokes: Strokes
) -> Iterator[tuple[str, str]]:
    """Yield label and cells: user tasks by thread id, then kernel threads, alike ones together."""
    moved = sorted((task for task in tasks if _changed_side(task)), key=lambda task: task.tid)
    user = [task for task in moved if not task.kthread]
    shown = user if len(user) <= _ROWS else _most_telling(user, scale, strokes)
    for task in shown:
        yield f"{task.tid:>5} {task.comm}", _cells(task, scale, strokes)
    if len(shown) < len(user):
        yield f"{'':>5} ({len(user) - len(shown)} more tasks)", ""
    crowds: list[tuple[str, list[TaskHistory]]] = []
    for task in (task for task in moved if task.kthread):
        cells = _cells(task, scale, strokes)
        crowd = next((crowd for known, crowd in crowds if _alike(known, cells)), None)
        if crowd is None:
            crowds.append((cells, [task]))
        else:
            crowd.append(task)
    for cells, crowd in sorted(crowds, key=lambda each: -len(each[1])):
        one = len(crowd) == 1
        yield (
            f"{crowd[0].tid:>5} [{crowd[0].comm}]" if one else f"{len(crowd):>5} kernel threads",
            cells,
        )
    passing = sum(not _changed_side(task) and _in_transition(task) for task in tasks)
    if passing:
        yield f"{passing:>5} others came, went", ""


def _alike(first: str, second: str) -> bool:
    """Tell whether two rows have the same states in turn, each change a column apart at most."""
    runs = [list(itertools.groupby(row)) for row in (first, second)]
    if [key for key, _ in runs[0]] != [key for key, _ in runs[1]]:
        return False
    edges = [_edges(row) for row in (first, second)]
    return all(abs(one - other) <= 1 for one, other in zip(*edges, strict=True))


def _edges(row: str) -> list[int]:
    return [i for i in range(1, len(row)) if row[i] != row[i - 1]]


def _changed_side(task: TaskHistory) -> bool:
    """Tell whether the task was seen to go into a transition, through it or out of it.

    What is born on one side and dies there does not move.
    """
    states = {change.state for change in task.changes} - {None}
    return len(states) > 1


def _in_transition(task: TaskHistory) -> bool:
    """Tell whether the task was in a transition at all; others only ran between two of them."""
    return any(change.state in (0, 1) for change in task.changes)


def _most_telling(
    user: Sequence[TaskHistory], scale: _Scale, strokes: Strokes
) -> list[TaskHistory]:
    """Return the tasks that were longest in a transition, as many as are worth reading."""

    def busy(task: TaskHistory) -> int:
        cells = _cells(task, scale, strokes)
        return cells.count(strokes.unpatched) + cells.count(strokes.patched)

    kept = sorted(user, key=busy, reverse=True)[:_ROWS]
    return sorted(kept, key=lambda task: task.tid)


def _cells(task: TaskHistory, scale: _Scale, strokes: Strokes) -> str:
    changes = sorted(task.changes, key=lambda change: change.at_s)
    cells: list[str] = []
    state: int | None = None
    at = 0
    for column in range(scale.columns):
        edge_s = scale.edge_s(column)
        last = column == scale.columns - 1
        while at < len(changes) and (changes[at].at_s < edge_s or last):
            state = changes[at].state
            at += 1
        cells.append(strokes.of(state))
    return "".join(cells)


def _styled(label: str, cells: str) -> Text:
    if len(label) > _LABEL:
        label = label[: _LABEL - 1] + "~"
    line = Text(f"{label:{_LABEL}} ")
    for cell in cells:
        line.append(cell, style=_STYLES.get(cell, ""))
    line.rstrip()
    return line


def _axis_line(scale: _Scale) -> Text:
    """Return round times where they belong, in seconds since recording began."""
    line = [" "] * scale.columns
    step_s = _round_step((scale.end_s - scale.start_s) * _TICK_EVERY / scale.columns)
    digits = max(0, -math.floor(math.log10(step_s)))
    tick = math.ceil(scale.start_s / step_s)
    while tick * step_s <= scale.end_s:
        text = f"|{tick * step_s:.{digits}f}"
        column = scale.column(tick * step_s)
        if column + len(text) <= scale.columns:
            line[column : column + len(text)] = text
        tick += 1
    return Text(f"{'seconds':>{_LABEL}} {''.join(line).rstrip()}")


def _round_step(least_s: float) -> float:
    power = 10.0 ** math.floor(math.log10(least_s))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= least_s * 0.999)


def _mark_lines(marks: Sequence[Mark], scale: _Scale) -> list[Text]:
    """Return the letters of the marks, each in its column; crowded ones go to another line."""
    lines: list[list[str]] = []
    for letter, mark in zip(_LETTERS, sorted(marks, key=lambda mark: mark.at_s), strict=False):
        column = scale.column(mark.at_s)
        free = next((line for line in lines if line[column] == " "), None)
        if free is None:
            free = [" "] * scale.columns
            lines.append(free)
        free[column] = letter
    return [Text(f"{'':{_LABEL}} {''.join(line).rstrip()}") for line in lines]


def _legend(marks: Sequence[Mark], width: int) -> list[Text]:
    lines: list[str] = []
    for letter, mark in zip(_LETTERS, sorted(marks, key=lambda mark: mark.at_s), strict=False):
        entry = f"{letter} {mark.at_s:.2f} s {mark.what}"
        if lines and len(lines[-1]) + 3 + len(entry) <= width:
            lines[-1] += "   " + entry
        else:
            lines.append(entry)
    return [Text(line) for line in lines]
