# SPDX-License-Identifier: GPL-2.0-only
"""A history as an HTML page: what changed, and for each command a grid of results and runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from markupsafe import Markup

from harness.report.html import render

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.report.history import HistoryRun
    from harness.tools.history.results import TrendResult
    from harness.tools.history.trend import Point, Series

_MOST_RUNS = 40
_WIDTH, _HEIGHT = 160, 24


def history_page(
    series: Sequence[Series],
    results: Sequence[TrendResult],
    *,
    damaged: Sequence[str],
    slow_runs: Sequence[str],
) -> str:
    """Return the page. Of many runs it shows the latest 40."""
    commands = {}
    for command in dict.fromkeys(each.command for each in series):
        own = [each for each in series if each.command == command]
        runs = {point.run.id: point.run for each in own for point in each.points}
        shown = sorted(runs.values(), key=lambda run: (run.at, run.id))[-_MOST_RUNS:]
        commands[command] = (shown, [(each, _by_run(each), _curve(each, shown)) for each in own])
    return render(
        "page.html.j2",
        str(__package__),
        commands=commands,
        changed=[each for each in results if each.changes],
        damaged=damaged,
        slow_runs=set(slow_runs),
    )


def _by_run(series: Series) -> dict[str, Point]:
    return {point.run.id: point for point in series.points}


def _curve(series: Series, shown: Sequence[HistoryRun]) -> Markup:
    """Return the seconds of a series as a drawing, from zero on."""
    places = {run.id: number for number, run in enumerate(shown)}
    timed = [
        (places[point.run.id], point.result.seconds)
        for point in series.points
        if point.run.id in places and point.result.seconds > 0
    ]
    if len(timed) < 2:
        return Markup()
    highest = max(seconds for _, seconds in timed)
    step = (_WIDTH - 4) / max(1, len(shown) - 1)
    dots = [
        (2 + place * step, _HEIGHT - 2 - seconds / highest * (_HEIGHT - 4))
        for place, seconds in timed
    ]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in dots)
    x, y = dots[-1]
    return Markup(  # noqa: S704 - numbers only
        f'<svg width="{_WIDTH}" height="{_HEIGHT}" viewBox="0 0 {_WIDTH} {_HEIGHT}">'
        f'<polyline points="{line}" fill="none" stroke="currentColor" stroke-width="1.5"/>'
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.2" fill="currentColor"/></svg>'
    )
