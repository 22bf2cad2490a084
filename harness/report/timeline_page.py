# SPDX-License-Identifier: GPL-2.0-only
"""Timelines as an HTML page, and as SVG drawings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.report import timeline_layout
from harness.report.html import render
from harness.report.timeline_layout import lay_out

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from markupsafe import Markup

    from harness.report.run_results import RunResult

_MOST_ROWS = 400


@dataclass(frozen=True, kw_only=True)
class Holder:
    """A task that held a transition: where it was, and at which attempts of the kernel."""

    tid: int
    comm: str
    where: str
    times_s: tuple[float, ...]


def timeline_page(
    title: str,
    facts: Mapping[str, str],
    results: Sequence[RunResult],
    *,
    partial: bool = False,
) -> str:
    """Return the page, with a section for each result.

    ``facts`` are of all results: the kernel, the accelerator.
    """
    return render(
        "timeline_page.html.j2",
        str(__package__),
        title=title,
        facts=facts,
        partial=partial,
        sections=[
            {
                "result": result,
                "drawing": timeline_svg(result, ident=f"t{number}"),
                "every_task": _every_task(result, f"a{number}"),
                "holders": holders(result),
            }
            for number, result in enumerate(results)
        ],
    )


def timeline_svg(result: RunResult, *, ident: str = "t0", alone: bool = False) -> Markup | None:
    """Return the drawing, for a page or for a file; None when nothing was recorded.

    ``ident`` is unique among the drawings of a page. ``alone``: no two tasks share a row.
    """
    drawing = lay_out(result, alone=alone)
    if drawing is None:
        return None
    return render(
        "timeline.svg.j2",
        str(__package__),
        name=result.id,
        drawing=drawing,
        ident=ident,
        at=timeline_layout,
    )


def holders(result: RunResult) -> tuple[Holder, ...]:
    """Return the tasks that held transitions, those that slept in a patched function first."""
    found: dict[tuple[int, str, str], list[float]] = {}
    for attempt in result.attempts or ():
        for task in attempt.held:
            where = f"in {task.function}()" if task.function else task.why
            found.setdefault((task.tid, task.comm, where), []).append(attempt.at_s)
    listed = [
        Holder(tid=tid, comm=comm, where=where, times_s=tuple(times))
        for (tid, comm, where), times in found.items()
    ]
    return tuple(
        sorted(listed, key=lambda each: (not each.where.startswith("in "), each.times_s[0]))
    )


def _every_task(result: RunResult, ident: str) -> Markup | None:
    """Return the drawing with a row for each task; None where the other has that already."""
    short, long = lay_out(result), lay_out(result, alone=True)
    if short is None or long is None or not len(short.rows) < len(long.rows) <= _MOST_ROWS:
        return None
    return timeline_svg(result, ident=ident, alone=True)
