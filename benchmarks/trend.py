# SPDX-License-Identifier: GPL-2.0-only
"""Whether a figure that was sampled again and again grows."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_FEWEST = 6
# Of the samples, the first are those of a start: imports, caches, the first guest.
_WARM_UP = 0.25
# One-sided, of the normal distribution: a flat figure is called growing once in a thousand times.
_SIGNIFICANT = 3.09


@dataclass(frozen=True, kw_only=True)
class Trend:
    """Samples of one figure after the warm-up, and what they say.

    ``growth`` is how much the fitted line rises over all samples, or how far the last third lies
    above the first, whichever is more, in the figure's own unit;
    ``significance`` is Mann and Kendall's Z, above 3.09 once in a thousand times by chance.
    """

    name: str
    unit: str
    first: float
    last: float
    lowest: float
    highest: float
    samples: int
    growth: float
    significance: float
    tolerated: float

    @property
    def grows(self) -> bool:
        """Whether it grows: certainly, and by more than is tolerated."""
        return (
            self.samples >= _FEWEST
            and self.significance > _SIGNIFICANT
            and self.growth > self.tolerated
        )

    @property
    def known(self) -> bool:
        """Whether there are enough samples to say anything."""
        return self.samples >= _FEWEST

    def describe(self) -> str:
        """Return one line with the figures."""
        verdict = "GROWS" if self.grows else "flat" if self.known else "too few samples"
        return (
            f"{self.name:<12}{self.unit:>4} first {self.first:.0f}, last {self.last:.0f}, "
            f"between {self.lowest:.0f} and {self.highest:.0f}, {self.samples} samples: "
            f"{verdict} (rise {self.growth:+.1f}, tolerated {self.tolerated:g}; "
            f"Z {self.significance:+.1f})"
        )


def trend_of(name: str, unit: str, values: Sequence[float], *, tolerated: float) -> Trend:
    """Return the trend of samples in the order in which they were taken.

    The slope is Theil and Sen's, the median of the slopes between all pairs, which single outliers
    do not move; the test is Mann and Kendall's, with ties (Gilbert, Statistical Methods for
    Environmental Pollution Monitoring, 1987, chapters 16.4 and 16.5).
    """
    warm = list(values[math.ceil(len(values) * _WARM_UP) :]) or [0.0]
    count = len(warm)
    pairs = [(i, j) for i in range(count) for j in range(i + 1, count)]
    # A line does not see a single step, and thirds see two thirds of a line.
    third = max(1, count // 3)
    step = statistics.median(warm[-third:]) - statistics.median(warm[:third])
    slope = statistics.median([(warm[j] - warm[i]) / (j - i) for i, j in pairs] or [0.0])
    score = sum((warm[j] > warm[i]) - (warm[j] < warm[i]) for i, j in pairs)
    ties = [warm.count(value) for value in set(warm)]
    variance = (
        count * (count - 1) * (2 * count + 5) - sum(t * (t - 1) * (2 * t + 5) for t in ties)
    ) / 18
    corrected = score - (score > 0) + (score < 0)
    return Trend(
        name=name,
        unit=unit,
        first=warm[0],
        last=warm[-1],
        lowest=min(warm),
        highest=max(warm),
        samples=count,
        growth=max(slope * (count - 1), step),
        significance=corrected / math.sqrt(variance) if variance > 0 else 0.0,
        tolerated=tolerated,
    )
