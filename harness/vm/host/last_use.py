# SPDX-License-Identifier: GPL-2.0-only
"""When something was last used, by a wall clock that may jump.

A use is noted twice in one file: its modification time is that of the wall clock, its content the
boot of the host and the seconds since then (CLOCK_BOOTTIME, which nobody sets). Within a boot the
second decides. For earlier uses, what the wall clock jumped by in this boot is taken off.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.vm.host.files import boot_id, read_text

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

# Adjustments that are no jump: NTP slews, and a stamp has whole seconds.
_DRIFT_S = 300.0
# Always the same, so that one stamp replaces another without a moment at which there is none.
_BYTES = 64


@dataclass(frozen=True, kw_only=True)
class LastUse:
    """A use. ``at_s`` is seconds since the epoch; ``since_boot_s`` None: of an earlier boot."""

    at_s: float
    since_boot_s: float | None


def note_use(descriptor: int) -> None:
    """Note in an open file that something is used now. Raises OSError."""
    os.utime(descriptor)
    os.pwrite(descriptor, f"{boot_id()} {int(_since_boot_s())}\n".encode().ljust(_BYTES), 0)


def read_use(file: Path) -> LastUse:
    """Return the use that a file notes. Raises OSError when there is none."""
    at_s = file.stat().st_mtime
    boot, _, seconds = (read_text(file) or "").rpartition(" ")
    in_this_boot = boot == boot_id() and seconds.isdecimal()
    return LastUse(at_s=at_s, since_boot_s=float(seconds) if in_this_boot else None)


class Ages:
    """How long ago uses were, all looked at in the same moment.

    ``is_sure``: something was used in this boot, so that a wall clock that was set wrong since
    then is noticed. Without that, a clock that is wrong since the start of the host is not.
    """

    def __init__(self, uses: Iterable[LastUse]) -> None:
        self._since_boot_s = _since_boot_s()
        self._now_s = time.time()
        newest = max(
            (use for use in uses if use.since_boot_s is not None),
            key=lambda use: use.since_boot_s or 0.0,
            default=None,
        )
        self.is_sure = newest is not None
        if newest is not None and newest.since_boot_s is not None:
            # The time by the clock as it was then.
            now_s = newest.at_s + self._since_boot_s - newest.since_boot_s
            if self._now_s - now_s > _DRIFT_S:
                self._now_s = now_s

    def age_s(self, use: LastUse) -> float:
        """Return how many seconds ago a use was, in doubt too few, and never below 0."""
        by_clock = max(self._now_s - use.at_s, 0.0)
        if use.since_boot_s is None:
            return by_clock
        return min(by_clock, self._since_boot_s - use.since_boot_s)


def _since_boot_s() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)
