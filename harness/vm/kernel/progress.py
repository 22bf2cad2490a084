# SPDX-License-Identifier: GPL-2.0-only
"""How far long work is: a terminal draws a bar, a CI log gets plain lines."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable


class Progress(Protocol):
    """Called by the work, in its own thread or in another; must not raise."""

    def stage(self, text: str) -> None:
        """A new step begins, for example ``unpacking linux-source-6.1``."""

    def count(self, done: int, total: int | None, what: str) -> None:
        """So many of ``total`` are done; it is None when unknown, and never below ``done``."""


class LineProgress:
    """Plain lines for a log: every stage, and the count when enough time has passed."""

    def __init__(self, write: Callable[[str], None], *, interval_s: float = 20.0) -> None:
        self._write = write
        self._interval_s = interval_s
        self._last_s = 0.0

    def stage(self, text: str) -> None:
        """Write the stage; its first count comes one interval later."""
        self._last_s = time.monotonic()
        self._write(text)

    def count(self, done: int, total: int | None, what: str) -> None:
        """Write the count, unless the last line is younger than the interval."""
        now_s = time.monotonic()
        if now_s - self._last_s >= self._interval_s:
            self._last_s = now_s
            self._write(f"{done} of {total} {what}" if total is not None else f"{done} {what}")
