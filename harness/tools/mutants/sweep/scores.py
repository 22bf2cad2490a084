# SPDX-License-Identifier: GPL-2.0-only
"""How many mutants are caught: of each file, function and operator. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.report.base import CheckOutcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from harness.tools.mutants.sweep.results import SweepResult

COUNTED = (
    CheckOutcome.CAUGHT,
    CheckOutcome.SURVIVED,
    CheckOutcome.UNCOVERED,
    CheckOutcome.EQUIVALENT,
    CheckOutcome.ERROR,
)


@dataclass(frozen=True, kw_only=True)
class Score:
    """The mutants of one file, function or operator, by outcome."""

    name: str
    counts: Counter[CheckOutcome]

    @property
    def judged(self) -> int:
        """How many a test could notice: those not proved equivalent, without errors."""
        return sum(self.counts[each] for each in COUNTED[:3])

    @property
    def caught(self) -> int:
        """How many were caught."""
        return self.counts[CheckOutcome.CAUGHT]

    @property
    def percent(self) -> str:
        """The share of caught ones in percent; a dash where none could be."""
        return f"{100 * self.caught / self.judged:.1f}" if self.judged else "-"


def score(name: str, results: Iterable[SweepResult]) -> Score:
    """Return the score of some results."""
    return Score(name=name, counts=Counter(result.outcome for result in results))


def scores_by(
    results: Sequence[SweepResult], of: Callable[[SweepResult], str]
) -> tuple[Score, ...]:
    """Return the score of each group of results, in the order in which the groups appear."""
    groups: dict[str, list[SweepResult]] = {}
    for result in results:
        groups.setdefault(of(result), []).append(result)
    return tuple(score(name, found) for name, found in groups.items())


def changed(results: Iterable[SweepResult]) -> tuple[SweepResult, ...]:
    """Return the results whose outcome was another one in the last sweep."""
    return tuple(result for result in results if result.before not in (None, result.outcome))
