# SPDX-License-Identifier: GPL-2.0-only
"""``models compare`` as one HTML page with curves that needs nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.report.base import CheckOutcome
from harness.report.html import render
from harness.tools.models import curves
from harness.tools.models.compare_terminal import remarks
from harness.tools.models.figures import parts
from harness.tools.models.rows import LIMIT_S, ROW, ROWS, STALLS, Group, time_id

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.tools.models.catalogue import Model
    from harness.tools.models.results import ComparedResult

_TIMES = ROW[time_id(10)]


def compare_page(
    models: Sequence[Model],
    results: Sequence[ComparedResult],
    facts: Mapping[str, str],
    *,
    partial: bool = False,
) -> str:
    """Return the page: curves of time, bars of stalls, and a table of all rows."""
    names = [model.name for model in models]
    found = {(result.row, result.model): result for result in results}
    return render(
        "compare_page.html.j2",
        str(__package__),
        models=models,
        facts=facts,
        chart=curves.time_chart(names, results),
        bars=curves.stall_bars(names, results),
        at=curves,
        rows=[row for row in ROWS if any((row.id, name) in found for name in names)],
        groups=Group,
        times=_TIMES,
        stalls=[ROW[each] for each in STALLS],
        found=found,
        shown=_shown,
        remarks=remarks(results),
        limit_s=LIMIT_S,
        partial=partial,
    )


def _shown(result: ComparedResult | None) -> tuple[str, str, str, str]:
    """Return class, text, spread and title of a cell."""
    if result is None:
        return "", "", "", ""
    kind = "" if result.outcome is CheckOutcome.PASSED else "failed"
    if result.never is not None and not kind:
        kind = "never"
    said = (result.never, result.says, result.detail)
    title = ". ".join(text for text in said if text is not None)
    return kind, *parts(result), title
