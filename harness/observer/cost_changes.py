# SPDX-License-Identifier: GPL-2.0-only
"""Which costs differ between two kernels. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.observer.cost_results import CostChange

if TYPE_CHECKING:
    from collections.abc import Iterable

    from harness.observer.cost_results import CostResult

TOLERANCE = 0.05
"""Two figures that differ by less than this share are the same. Two runs differ by far less."""


def compare_costs(
    before: Iterable[CostResult], after: Iterable[CostResult], tolerance: float = TOLERANCE
) -> tuple[CostChange, ...]:
    """Return the figures that both kernels have and that differ, the largest change first."""
    then = {each.figure: each for each in before}
    found = [
        CostChange(figure=each.figure, what=each.what, before=old.value, after=each.value)
        for each in after
        if (old := then.get(each.figure)) is not None
        and abs(each.value - old.value) > tolerance * max(each.value, old.value)
    ]
    return tuple(sorted(found, key=lambda change: -abs(change.share)))
