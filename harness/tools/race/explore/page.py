# SPDX-License-Identifier: GPL-2.0-only
"""Interleavings as a page: what was covered, and each finding as two columns of calls."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.report.html import render
from harness.tools.race.explore.terminal import how_often

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.tools.race.explore.results import ExploreCall, ExploreFinding, ExploreResult

_MOST_BEFORE, _MOST_AFTER = 16, 60


@dataclass(frozen=True, kw_only=True)
class CallRow:
    """A line of the two columns. ``phase`` is before, held or after."""

    phase: str
    by: str
    function: str
    at_ms: str


def explore_page(
    facts: Mapping[str, str], results: Sequence[ExploreResult], *, partial: bool = False
) -> str:
    """Return the page of a campaign."""
    return render(
        "page.html.j2",
        __package__,
        title="Interleavings of livepatch actions",
        facts=facts,
        results=results,
        shown=[each for each in results if each.findings],
        rows=call_rows,
        how_often=how_often,
        ident=lambda result, finding: f"{result.id}-{result.findings.index(finding)}",
        partial=partial,
    )


def call_rows(finding: ExploreFinding) -> list[CallRow]:
    """Return the calls of a finding as lines: the last ones before the hold, and those after it."""
    before, after = finding.calls[: finding.calls_before], finding.calls[finding.calls_before :]
    rows = [_row("before", call) for call in before[-_MOST_BEFORE:]]
    last_of_b = max((at for at, call in enumerate(after) if call.by == "B"), default=-1)
    first_of_a = next((at for at, call in enumerate(after) if call.by == "A"), len(after))
    end = first_of_a if finding.calls_before else last_of_b + 1
    rows += [_row("held", call) for call in after[:end]]
    return rows + [_row("after", call) for call in after[end:][:_MOST_AFTER]]


def _row(phase: str, call: ExploreCall) -> CallRow:
    return CallRow(phase=phase, by=call.by, function=call.function, at_ms=f"{call.at_ms:.0f}")
