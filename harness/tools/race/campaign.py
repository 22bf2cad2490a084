# SPDX-License-Identifier: GPL-2.0-only
"""Campaigns: many trials of reproducers, each on a fresh guest with a seed of its own.

The caller says what a trial is: a function of reproducer and seed. So the same campaign runs in
guests of this process or anywhere else, and its logic is tested without a guest.
"""

from __future__ import annotations

import itertools
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from harness.errors import HarnessError, KernelVerdict, RaceShown
from harness.threads import run_jobs
from harness.tools.race.statistics import wilson

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from harness.tools.race.reproducer import Reproducer

    TryOne = Callable[[Reproducer, int], "Trial"]


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One trial and how it ended; ``ended_by`` is None when the kernel held."""

    race: Reproducer
    seed: int
    seconds: float
    ended_by: KernelVerdict | HarnessError | None = None

    @property
    def shown(self) -> RaceShown | None:
        """What showed the race."""
        return self.ended_by if isinstance(self.ended_by, RaceShown) else None

    @property
    def failed(self) -> KernelVerdict | None:
        """A failure of the kernel that is not this race."""
        if isinstance(self.ended_by, KernelVerdict) and self.shown is None:
            return self.ended_by
        return None

    @property
    def error(self) -> HarnessError | None:
        """A failure of the harness or the host, which is no result about the kernel."""
        return self.ended_by if isinstance(self.ended_by, HarnessError) else None


@dataclass(frozen=True, kw_only=True)
class Extent:
    """How long a campaign lasts: a number of trials of each reproducer, or a time in seconds.

    The seeds of a reproducer's trials are ``seed``, ``seed`` + 1, and so on. Without ``go_on``, a
    reproducer that has shown its race, or failed, is not tried again, unless all of these trials
    are ``passed_over``.
    """

    seed: int
    trials: int | None = 1
    budget_s: float | None = None
    go_on: bool = False
    passed_over: Callable[[Trial], bool] = lambda _: False

    def tries_again(self, found: ReproducerTrials) -> bool:
        """Return whether a reproducer with these trials is tried again."""
        return self.go_on or all(
            trial.ended_by is None or self.passed_over(trial) for trial in found.trials
        )


@dataclass
class ReproducerTrials:
    """All trials of one reproducer, in the order in which they ended."""

    race: Reproducer
    trials: list[Trial] = field(default_factory=list)
    first_hit_s: float | None = None

    @property
    def judged(self) -> int:
        """How many trials count: those that the harness or the host did not end."""
        return sum(trial.error is None for trial in self.trials)

    @property
    def hits(self) -> list[Trial]:
        """The trials that showed the race."""
        return [trial for trial in self.trials if trial.shown is not None]

    @property
    def settled(self) -> bool:
        """Whether there is a hit, or a failure of another kind."""
        return any(trial.ended_by is not None for trial in self.trials)

    def interval(self) -> tuple[float, float]:
        """Return the 95 % confidence interval of the rate of hits."""
        return wilson(len(self.hits), self.judged)


class Campaign:
    """The trials of some reproducers. ``found`` has those of each, by its name."""

    def __init__(self, races: Sequence[Reproducer], extent: Extent) -> None:
        self.extent = extent
        self.found = {race.name: ReproducerTrials(race) for race in races}
        self._lock = threading.Lock()

    def run(self, try_one: TryOne, *, guests: int) -> Iterator[Trial]:
        """Make so many trials at a time; yield each when it ends. Raises what ``try_one`` does."""
        start_s = time.monotonic()

        def make(job: tuple[Reproducer, int]) -> Trial:
            trial = try_one(*job)
            with self._lock:
                found = self.found[trial.race.name]
                found.trials.append(trial)
                if trial.shown is not None and found.first_hit_s is None:
                    found.first_hit_s = time.monotonic() - start_s
            return trial

        yield from run_jobs(self._jobs(start_s), make, at_a_time=guests, name="trials")

    def has_settled(self) -> bool:
        """Return whether a reproducer has a hit, or a failure of another kind."""
        return any(found.settled for found in self.found.values())

    def _jobs(self, start_s: float) -> Iterator[tuple[Reproducer, int]]:
        """Yield the trials in turns, so that no reproducer waits for the end of another."""
        extent = self.extent
        for number in itertools.count() if extent.trials is None else range(extent.trials):
            wanted = [each for each in self.found.values() if extent.tries_again(each)]
            if not wanted:
                return
            for found in wanted:
                elapsed_s = time.monotonic() - start_s
                if extent.budget_s is not None and elapsed_s >= extent.budget_s:
                    return
                if extent.tries_again(found):
                    yield found.race, extent.seed + number
