# SPDX-License-Identifier: GPL-2.0-only
"""What verifying livepatches came to, as one HTML page that needs nothing else."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jinja2 import Environment, PackageLoader, StrictUndefined

from harness.report.base import CheckOutcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from harness.report.results import Mark, RunResult, TaskHistory
    from harness.report.verify import VerdictFacts, VerifyResult

_TEMPLATE = "verify.html.j2"
_NEWS = (CheckOutcome.FAILED, CheckOutcome.WARNED)
_ROWS = 40
_MARGIN_S = 0.05


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """A time in which a task was in one patch state, as parts of the whole width (0 to 100)."""

    left: float
    width: float
    state: int
    title: str


@dataclass(frozen=True, kw_only=True)
class Row:
    """A task, or kernel threads that switched alike, and its states from left to right."""

    label: str
    stretches: tuple[Stretch, ...]


@dataclass(frozen=True, kw_only=True)
class Notch:
    """A mark on the time axis."""

    left: float
    at_s: float
    what: str


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """The timeline of one run, in parts of its width."""

    name: str
    seconds: float
    rows: tuple[Row, ...]
    notches: tuple[Notch, ...]
    left_out: int


def verify_page(
    verdicts: Sequence[VerdictFacts],
    results: Sequence[VerifyResult],
    runs: Sequence[RunResult],
    *,
    kernel: str,
    accelerator: str,
) -> str:
    """Return the page: what each module came to, all checks with their evidence, timelines."""
    environment = Environment(
        loader=PackageLoader("harness.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(_TEMPLATE).render(
        kernel=kernel,
        accelerator=accelerator,
        verdicts=verdicts,
        checks={v.module: [r for r in results if r.module == v.module] for v in verdicts},
        counts={
            v.module: Counter(r.outcome.value for r in results if r.module == v.module)
            for v in verdicts
        },
        news=_NEWS,
        drawings={
            v.module: [draw(run) for run in runs if run.id.partition("/")[0] == v.module]
            for v in verdicts
        },
    )


def draw(run: RunResult) -> Drawing:
    """Return a recorded run as a picture: who was in which patch state when."""
    start_s, end_s = _span(run)
    width_s = end_s - start_s

    def part(at_s: float) -> float:
        return round(min(max((at_s - start_s) / width_s, 0.0), 1.0) * 100, 2)

    rows: dict[tuple[tuple[float, int], ...], list[TaskHistory]] = {}
    moved = [task for task in run.tasks if any(c.state in (0, 1) for c in task.changes)]
    for task in sorted(moved, key=lambda each: (each.kthread, each.tid)):
        key = tuple((round(part(c.at_s)), -2 if c.state is None else c.state) for c in task.changes)
        # Alike kernel threads share a row; every user task has its own.
        rows.setdefault(key if task.kthread else ((float(task.tid), -9),), []).append(task)
    drawn = [
        Row(label=_label(tasks), stretches=tuple(_stretches(tasks[0], part, end_s)))
        for tasks in rows.values()
    ]
    return Drawing(
        name=run.id.partition("/")[2] or run.id,
        seconds=width_s,
        rows=tuple(drawn[:_ROWS]),
        notches=tuple(_notch(mark, part(mark.at_s)) for mark in run.marks),
        left_out=max(0, len(drawn) - _ROWS),
    )


def _span(run: RunResult) -> tuple[float, float]:
    """Return the stretch of time worth drawing: the marks and a little around them."""
    times = [mark.at_s for mark in run.marks] or [
        change.at_s for task in run.tasks for change in task.changes
    ]
    if not times:
        return 0.0, 1.0
    margin_s = max(_MARGIN_S, 0.04 * (max(times) - min(times)))
    return min(times) - margin_s, max(times) + margin_s


def _label(tasks: Sequence[TaskHistory]) -> str:
    first = tasks[0]
    if len(tasks) > 1:
        return f"{len(tasks)} kernel threads"
    return f"{first.tid} [{first.comm}]" if first.kthread else f"{first.tid} {first.comm}"


def _stretches(
    task: TaskHistory, part: Callable[[float], float], end_s: float
) -> Iterator[Stretch]:
    changes = sorted(task.changes, key=lambda change: change.at_s)
    for change, after in zip(changes, [*changes[1:], None], strict=False):
        if change.state is None:
            continue
        until_s = end_s if after is None else after.at_s
        left, right = part(change.at_s), part(until_s)
        if right > left:
            yield Stretch(
                left=left,
                width=round(right - left, 2),
                state=change.state,
                title=f"{task.comm} ({task.tid}): {_STATES.get(change.state, '?')} "
                f"from {change.at_s:.2f} s to {until_s:.2f} s",
            )


_STATES = {-1: "in no transition (-1)", 0: "unpatched (0)", 1: "patched (1)"}


def _notch(mark: Mark, left: float) -> Notch:
    return Notch(left=left, at_s=mark.at_s, what=mark.what)
