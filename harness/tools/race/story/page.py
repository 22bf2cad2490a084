# SPDX-License-Identifier: GPL-2.0-only
"""A story as one HTML page: a drawing with a row for each task, and all lines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.report.html import render
from harness.tools.race.results import StoryKind, StoryLine
from harness.tools.race.story.teller import ORIGINAL

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from harness.tools.race.recording_file import RecordingNote

LEFT, TOP, ROW, STEP = 170, 46, 22, 26
_MOST_COLUMNS = 400
_SIGNS = {
    StoryKind.FORK: "Y",
    StoryKind.EXIT: "■",
    StoryKind.SPLAT: "✕",
    StoryKind.VIOLATION: "!",
    StoryKind.ATTEMPT: "?",
    StoryKind.MODULE: "M",
    StoryKind.PATCH: "P",
}
_COMPLETES = "completes"


@dataclass(frozen=True, kw_only=True)
class Span:
    """A stretch in which a task has a patch state."""

    start: float
    end: float
    state: int


@dataclass(frozen=True, kw_only=True)
class Sign:
    """What a task does, at one line of the story."""

    x: float
    text: str
    kind: str
    title: str


@dataclass(frozen=True, kw_only=True)
class Lane:
    """A task of the drawing."""

    name: str
    y: float
    spans: tuple[Span, ...]
    signs: tuple[Sign, ...]


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A transition's start, end or turn, or a splat, over all tasks."""

    x: float
    text: str
    bad: bool


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """Tasks from the top down, the lines of the story from left to right."""

    lanes: tuple[Lane, ...]
    marks: tuple[Mark, ...]
    width: float
    height: float
    others: int


def draw(lines: Sequence[StoryLine]) -> Drawing:
    """Return the drawing: the tasks that do more than to be switched by others have a row."""
    shown = lines[:_MOST_COLUMNS]
    own = {line.task for line in shown if line.task is not None}
    held = {name for line in shown if line.kind is StoryKind.SWITCH for name in line.switched}
    single = {
        line.switched[0]
        for line in shown
        if line.kind is StoryKind.SWITCH and len(line.switched) == 1
    }
    names = [name for name in _in_order(shown) if name in own | single]
    lanes = tuple(
        Lane(
            name=name,
            y=TOP + number * ROW,
            spans=tuple(_spans(shown, name)),
            signs=tuple(_signs(shown, name)),
        )
        for number, name in enumerate(names)
    )
    return Drawing(
        lanes=lanes,
        marks=tuple(
            Mark(x=_x(number), text=_short(line), bad=line.kind is StoryKind.SPLAT)
            for number, line in enumerate(shown)
            if line.kind in (StoryKind.TRANSITION, StoryKind.SPLAT)
        ),
        width=_x(len(shown)) + 20,
        height=TOP + len(lanes) * ROW + 10,
        others=len(held - set(names)),
    )


def story_page(note: RecordingNote, lines: Sequence[StoryLine]) -> str:
    """Return the page of a recording's story."""
    facts = {
        "kernel": note.kernel,
        "seed": str(note.seed),
        "shown": note.message or "the race was not shown",
    }
    return render(
        "page.html.j2",
        str(__package__),
        title=f"The story of {note.reproducer}",
        facts=facts,
        details=note.details,
        lines=lines,
        drawing=draw(lines) if lines else None,
        left_out=max(0, len(lines) - _MOST_COLUMNS),
        left=LEFT,
        top=TOP,
        row=ROW,
    )


def _x(number: int) -> float:
    return LEFT + 14 + number * STEP


def _in_order(lines: Iterable[StoryLine]) -> list[str]:
    names: dict[str, None] = {}
    for line in lines:
        if line.task is not None:
            names.setdefault(line.task)
        names.update(dict.fromkeys(line.switched))
    return list(names)


def _spans(lines: Sequence[StoryLine], name: str) -> Iterable[Span]:
    """Yield the stretches of a task's patch state, as far as the lines show it."""
    since, state = 0, None
    for number, line in enumerate(lines):
        after = _state_after(line, name, state)
        if after != state:
            if state is not None:
                yield Span(start=_x(since), end=_x(number), state=state)
            since, state = number, after
    if state is not None:
        yield Span(start=_x(since), end=_x(len(lines)), state=state)


def _state_after(line: StoryLine, name: str, before: int | None) -> int | None:
    """Return a task's patch state after a line."""
    if name in line.switched:
        return line.to
    if line.kind is StoryKind.TRANSITION and _short(line) == _COMPLETES:
        return None
    if line.task == name:
        return None if line.kind is StoryKind.EXIT else line.state
    return before


def _signs(lines: Sequence[StoryLine], name: str) -> Iterable[Sign]:
    for number, line in enumerate(lines):
        title = f"{line.at:,}: {line.task}: {line.text}"
        if line.kind is StoryKind.SWITCH and name in line.switched:
            yield Sign(x=_x(number), text=f"→{line.to}", kind="switch", title=title)
        elif line.task != name or line.kind in (StoryKind.SWITCH, StoryKind.TRANSITION):
            continue
        elif line.kind is StoryKind.CALL:
            is_old = line.version == ORIGINAL
            yield Sign(
                x=_x(number),
                text="○" if is_old else "●",
                kind="old" if is_old else "new",
                title=title,
            )
        else:
            kind = "bad" if line.marked else "plain"
            yield Sign(x=_x(number), text=_SIGNS[line.kind], kind=kind, title=title)


def _short(line: StoryLine) -> str:
    """Return the first word of what a mark is: starts, completes, reverses."""
    return "splat" if line.kind is StoryKind.SPLAT else line.text.partition(" ")[0]
