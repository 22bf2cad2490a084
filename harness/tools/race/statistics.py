# SPDX-License-Identifier: GPL-2.0-only
"""The confidence interval of a rate of hits. Pure."""

from __future__ import annotations

import math

# The 97.5 % point of the normal distribution: two sides of 2.5 % leave 95 %.
_Z = 1.959963984540054


def wilson(hits: int, trials: int) -> tuple[float, float]:
    """Return the 95 % confidence interval of a rate, from 0 to 1 (E. B. Wilson, JASA 1927).

    It stays within 0 and 1, and is of use when no trial or every trial was a hit. Without a trial
    nothing is known. Raises ValueError for counts that cannot be.
    """
    if not 0 <= hits <= trials:
        raise ValueError(f"{hits} hits in {trials} trials")
    if not trials:
        return 0.0, 1.0
    rate = hits / trials
    weight = 1 + _Z**2 / trials
    centre = (rate + _Z**2 / (2 * trials)) / weight
    half = _Z / weight * math.sqrt(rate * (1 - rate) / trials + _Z**2 / (4 * trials**2))
    # Rounding must not leave a rate that was seen outside.
    low = 0.0 if hits == 0 else max(0.0, centre - half)
    high = 1.0 if hits == trials else min(1.0, centre + half)
    return low, high
