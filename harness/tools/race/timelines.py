# SPDX-License-Identifier: GPL-2.0-only
"""The recorded trials of a campaign, for a page: one of each reproducer."""

from __future__ import annotations

import dataclasses
import threading
from typing import TYPE_CHECKING

from harness.report.base import CheckOutcome

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.report.run_results import RunResult
    from harness.tools.race.reproducer import Reproducer


class TrialTimelines:
    """Keeps the first trial of each reproducer that showed something, else its last."""

    def __init__(self) -> None:
        self._kept: dict[str, RunResult] = {}
        self._lock = threading.Lock()

    def of(self, races: Sequence[Reproducer]) -> tuple[Reproducer, ...]:
        """Return the reproducers so that their trials are recorded and kept here."""
        return tuple(dataclasses.replace(race, on_recorded=self.keep) for race in races)

    def keep(self, seen: RunResult) -> None:
        """Keep a recorded trial, if it is wanted. Several threads may call this at once."""
        with self._lock:
            known = self._kept.get(seen.module)
            if known is None or known.outcome is CheckOutcome.NOT_SHOWN:
                self._kept[seen.module] = seen

    def chosen(self) -> tuple[RunResult, ...]:
        """Return the kept trials, in the order in which reproducers first ended one."""
        with self._lock:
            return tuple(self._kept.values())
