# SPDX-License-Identifier: GPL-2.0-only
"""Campaigns: many trials of reproducers, each on a fresh guest with a seed of its own.

What a trial is, the caller says: a function of reproducer and seed. So the same campaign runs on
guests of this process or anywhere else, and its logic is tested without a guest.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from harness.threads import run_jobs
from harness.tools.race.statistics import wilson

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from harness.errors import HarnessError, KernelVerdict, RaceShown
    from harness.tools.race.reproducer import Reproducer


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What came of one trial: at most one of ``shown``, ``failed`` and ``error`` is set.

    ``failed`` is a failure of the kernel that is not this race, ``error`` one of harness or host.
    """

    race: Reproducer
    seed: int
    seconds: float
    shown: RaceShown | None = None
    failed: KernelVerdict | None = None
    error: HarnessError | None = None


@dataclass(frozen=True, kw_only=True)
class Extent:
    """How far a campaign goes: so many trials of each reproducer, or as many as there is time.

    The seeds of a reproducer's trials are ``seed``, ``seed`` + 1, and so on. Without ``go_on``, a
    reproducer that has shown its race, or failed, is not tried again.
    """

    seed: int
    trials: int | None = 1
    budget_s: float | None = None
    guests: int = 1
    go_on: bool = False


@dataclass
class Tally:
    """All trials of one reproducer, in the order in which they ended."""

    race: Reproducer
    trials: list[Trial] = field(default_factory=list)
    first_hit_s: float | None = None

    @property
    def judged(self) -> int:
        """How many trials say something: those that harness or host did not end."""
        return sum(trial.error is None for trial in self.trials)

    @property
    def hits(self) -> list[Trial]:
        """The trials that showed the race."""
        return [trial for trial in self.trials if trial.shown is not None]

    @property
    def settled(self) -> bool:
        """Whether there is a hit, or a failure of another kind."""
        return any(trial.shown or trial.failed or trial.error for trial in self.trials)

    def interval(self) -> tuple[float, float]:
        """Return the 95 % confidence interval of the rate of hits."""
        return wilson(len(self.hits), self.judged)


class Campaign:
    """Runs the trials of some reproducers in threads, one guest each."""

    def __init__(
        self,
        races: Sequence[Reproducer],
        extent: Extent,
        try_one: Callable[[Reproducer, int], Trial],
    ) -> None:
        self.tallies = {race.name: Tally(race) for race in races}
        self._extent = extent
        self._try_one = try_one
        self._jobs = self._make_jobs(races)
        self._lock = threading.Lock()
        self._start_s = time.monotonic()

    def run(self) -> Iterator[Trial]:
        """Yield each trial when it ends; raises what ``try_one`` did not make a trial of."""
        self._start_s = time.monotonic()
        yield from run_jobs(self._extent.guests, "trials", self._next_job, self._make)

    def _make(self, job: tuple[Reproducer, int]) -> Trial:
        trial = self._try_one(*job)
        self._note(trial)
        return trial

    def _next_job(self) -> tuple[Reproducer, int] | None:
        with self._lock:
            for race, seed in self._jobs:
                if self._is_over():
                    return None
                if self._extent.go_on or not self.tallies[race.name].settled:
                    return race, seed
        return None

    def _is_over(self) -> bool:
        budget_s = self._extent.budget_s
        if budget_s is not None and time.monotonic() - self._start_s >= budget_s:
            return True
        return not self._extent.go_on and all(tally.settled for tally in self.tallies.values())

    def _note(self, trial: Trial) -> None:
        with self._lock:
            tally = self.tallies[trial.race.name]
            tally.trials.append(trial)
            if trial.shown is not None and tally.first_hit_s is None:
                tally.first_hit_s = time.monotonic() - self._start_s

    def _make_jobs(self, races: Sequence[Reproducer]) -> Iterator[tuple[Reproducer, int]]:
        """Yield the trials in turns, so that no reproducer waits for the end of another."""
        number = 0
        while self._extent.trials is None or number < self._extent.trials:
            for race in races:
                yield race, self._extent.seed + number
            number += 1
