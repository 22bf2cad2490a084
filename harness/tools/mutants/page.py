# SPDX-License-Identifier: GPL-2.0-only
"""Kernel mutants x rules as one HTML page that needs nothing else."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from harness.report.base import CheckOutcome
from harness.report.html import render

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.tools.mutants.results import MutantResult

# Survivors first, then what judges nothing, then the caught.
_ORDER = (
    CheckOutcome.SURVIVED,
    CheckOutcome.ERROR,
    CheckOutcome.DOES_NOT_APPLY,
    CheckOutcome.DOES_NOT_BUILD,
    CheckOutcome.DOES_NOT_BOOT,
    CheckOutcome.CAUGHT,
)


def matrix_page(results: Sequence[MutantResult], kernel: str, *, partial: bool = False) -> str:
    """Return the page: survivors with their diffs, then a row for each mutant.

    Where the kernel's own selftests ran, a column has their outcome.
    """
    ordered = sorted(
        results, key=lambda result: (not result.is_news, _ORDER.index(result.outcome), result.id)
    )
    rules = sorted({rule for r in results for rule in (*r.rules, *r.breaks)})
    return render(
        "page.html.j2",
        str(__package__),
        kernel=kernel,
        results=ordered,
        rules=rules,
        compared=[result.upstream for result in ordered if result.upstream is not None],
        counts=Counter(result.outcome.value for result in ordered),
        cell=_cell,
        partial=partial,
    )


def _cell(result: MutantResult, rule: str) -> tuple[str, str]:
    """Return class and sign of a cell: the outcome of the rule, and whether it should fail."""
    outcome = result.rules.get(rule)
    kind = {
        CheckOutcome.FAILED: "failed",
        CheckOutcome.PASSED: "passed",
        None: "none",
    }.get(outcome, "other")
    if rule in result.breaks:
        return f"{kind} broken", "✕" if outcome is CheckOutcome.FAILED else "○"
    return kind, "✕" if outcome is CheckOutcome.FAILED else ""
