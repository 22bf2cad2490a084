# SPDX-License-Identifier: GPL-2.0-only
"""How long a guest runs between two looks at it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_FIRST_S, _MOST_S = 0.002, 0.02


def slices(seconds: float) -> Iterator[float]:
    """Yield for how many seconds to let it run, longer and longer, until the time is up."""
    end_s, slice_s = time.monotonic() + seconds, _FIRST_S
    while time.monotonic() < end_s:
        yield slice_s
        slice_s = min(2 * slice_s, _MOST_S)
