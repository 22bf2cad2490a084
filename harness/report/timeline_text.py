# SPDX-License-Identifier: GPL-2.0-only
"""Draws in the terminal which task had which patch state when.

The characters show it, not only their colours, so that a log can be read, too. There is a row for
each task; kernel threads that switched at the same times share a row.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.text import Text

from harness.report.timeline_layout import (
    drawn_time,
    has_moved,
    round_step,
    was_in_transition,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from harness.report.run_results import Mark, TaskHistory

_LABEL = 25
_ROWS = 40
_TICK_EVERY = 12
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True, kw_only=True)
class Strokes:
    """The characters of a drawing."""

    unpatched: str
    patched: str
    idle: str
    absent: str

    def meaning(self) -> str:
        """Return the legend: each character and the number in /proc/PID/patch_state."""
        return f"{self.unpatched} unpatched (0)  {self.patched} patched (1)  {self.idle} none (-1)"

    def of(self, state: int | None) -> str:
        """Return the character of a patch state; None: the task does not exist."""
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
    """Return the lines of the drawing, none of them wider than ``width``.

    A column has the last state in its part of the time.
    """
    marked = [mark.at_s for mark in marks]
    drawn = drawn_time(tasks, marked, ended=len(marked) > 1)
    if drawn is None:
        return [Text("nothing was recorded")]
    scale = _Scale(start_s=drawn[0], end_s=drawn[1], columns=max(width, 60) - _LABEL - 1)
    lines = [_axis_line(scale), *_mark_lines(marks, scale)]
    lines += [_styled(label, cells) for label, cells in _rows(tasks, scale, strokes)]
    lines.append(Text(f"{'':{_LABEL}} {strokes.meaning()}"))
    lines += _legend(marks, width)
    return lines


def can_draw(encoding: str | None) -> Strokes:
    """Return the characters that a stream of that encoding can show."""
    try:
        (UNICODE.unpatched + UNICODE.patched + UNICODE.idle).encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return ASCII
    return UNICODE


def _rows(
    tasks: Sequence[TaskHistory], scale: _Scale, strokes: Strokes
) -> Iterator[tuple[str, str]]:
    """Yield label and cells: user tasks by thread id, then groups of kernel threads."""
    moved = sorted((task for task in tasks if has_moved(task)), key=lambda task: task.tid)
    user = [task for task in moved if not task.kthread]
    shown = user if len(user) <= _ROWS else _longest_in_transition(user, scale, strokes)
    for task in shown:
        yield f"{task.tid:>5} {task.comm}", _cells(task, scale, strokes)
    if len(shown) < len(user):
        yield f"{'':>5} ({len(user) - len(shown)} more tasks)", ""
    groups: list[tuple[str, list[TaskHistory]]] = []
    for task in (task for task in moved if task.kthread):
        cells = _cells(task, scale, strokes)
        group = next((group for known, group in groups if _alike(known, cells)), None)
        if group is None:
            groups.append((cells, [task]))
        else:
            group.append(task)
    for cells, group in sorted(groups, key=lambda each: -len(each[1])):
        first = group[0]
        label = f"{first.tid:>5} [{first.comm}]"
        yield label if len(group) == 1 else f"{len(group):>5} kernel threads", cells
    passing = sum(not has_moved(task) and was_in_transition(task) for task in tasks)
    if passing:
        yield f"{passing:>5} did not switch", ""


def _alike(first: str, second: str) -> bool:
    """Return whether two rows have the same states, with changes at most one column apart."""
    runs = [list(itertools.groupby(row)) for row in (first, second)]
    if [key for key, _ in runs[0]] != [key for key, _ in runs[1]]:
        return False
    edges = [_edges(row) for row in (first, second)]
    return all(abs(one - other) <= 1 for one, other in zip(*edges, strict=True))


def _edges(row: str) -> list[int]:
    return [i for i in range(1, len(row)) if row[i] != row[i - 1]]


def _longest_in_transition(
    user: Sequence[TaskHistory], scale: _Scale, strokes: Strokes
) -> list[TaskHistory]:
    """Return the tasks that were longest in a transition, at most 40."""

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
    """Return the axis with round times, in seconds since the start of the recording."""
    line = [" "] * scale.columns
    step_s, digits = round_step((scale.end_s - scale.start_s) * _TICK_EVERY / scale.columns)
    tick = math.ceil(scale.start_s / step_s)
    while tick * step_s <= scale.end_s:
        text = f"|{tick * step_s:.{digits}f}"
        column = scale.column(tick * step_s)
        if column + len(text) <= scale.columns:
            line[column : column + len(text)] = text
        tick += 1
    return Text(f"{'seconds':>{_LABEL}} {''.join(line).rstrip()}")


def _mark_lines(marks: Sequence[Mark], scale: _Scale) -> list[Text]:
    """Return lines with the letter of each mark in its column."""
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
