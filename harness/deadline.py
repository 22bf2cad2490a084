# SPDX-License-Identifier: GPL-2.0-only
"""One monotonic deadline, made at the top and passed downward."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class Deadline:
    """A point in time (``time.monotonic()``, seconds) before which something must happen."""

    at_s: float

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        """Return the deadline that lies that many seconds from now."""
        return cls(time.monotonic() + seconds)

    @property
    def remaining_s(self) -> float:
        """Seconds left, never below 0."""
        return max(0.0, self.at_s - time.monotonic())

    @property
    def expired(self) -> bool:
        """Whether the point in time has passed."""
        return time.monotonic() >= self.at_s

    def within(self, seconds: float) -> Deadline:
        """Return the earlier of this deadline and that many seconds from now."""
        return Deadline(min(self.at_s, time.monotonic() + seconds))


def wait_until(
    condition: Callable[[], bool], deadline: Deadline, *, interval_s: float = 0.02
) -> bool:
    """Poll until the condition holds; return False when the deadline came first.

    The condition is tested before expiry and once more after it, so that success at the last moment
    is not reported as a time-out.
    """
    while True:
        if condition():
            return True
        if deadline.expired:
            return condition()
        time.sleep(min(interval_s, deadline.remaining_s))
