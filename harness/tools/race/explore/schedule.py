# SPDX-License-Identifier: GPL-2.0-only
"""Which trial of a campaign is next: one of each pair at a time, while there are enough pairs."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from harness.tools.race.explore.points import Hold

_WAKE_S = 0.5


@dataclass(frozen=True)
class Job:
    """A trial of a pair, by the pair's number and that of the hold; without one, its beginning."""

    pair: int
    number: int = -1
    hold: Hold | None = None


class Schedule:
    """The jobs of a campaign. Several threads may use it."""

    def __init__(self, pairs: int, *, most: int | None, seconds: float | None) -> None:
        """Begin with so many pairs; end after ``most`` trials, or so many seconds from now."""
        self._ready = deque(Job(number) for number in range(pairs))
        self._most = most
        self._end_s = None if seconds is None else time.monotonic() + seconds
        self._changed = threading.Condition()
        self._at_work: Counter[int] = Counter()
        self._given = 0

    def jobs(self) -> Iterator[Job]:
        """Yield each job when it is its turn; wait for the ones that those at work may add."""
        while True:
            with self._changed:
                if self._is_over():
                    return
                if self._ready:
                    job = self._take()
                elif +self._at_work:
                    self._changed.wait(_WAKE_S)
                    continue
                else:
                    return
            yield job

    def add(self, jobs: Collection[Job]) -> None:
        """Put jobs before all others: pairs that have begun end before others begin."""
        with self._changed:
            self._ready.extendleft(reversed(tuple(jobs)))
            self._changed.notify_all()

    def waiting(self, pair: int) -> tuple[Job, ...]:
        """Return the trials of a pair that nobody has begun, in their order."""
        with self._changed:
            return tuple(job for job in self._ready if job.pair == pair)

    def cancel(self, jobs: Collection[Job]) -> tuple[Job, ...]:
        """Take back those of the jobs that nobody has begun, and return them."""
        unwanted = frozenset(jobs)
        with self._changed:
            taken = tuple(job for job in self._ready if job in unwanted)
            self._ready = deque(job for job in self._ready if job not in unwanted)
        return taken

    def end(self, job: Job) -> None:
        """Note that a job has ended."""
        with self._changed:
            self._at_work[job.pair] -= 1
            self._changed.notify_all()

    def _take(self) -> Job:
        """Return the next job: a trial may show which others of its pair are not needed."""
        at = next((n for n, job in enumerate(self._ready) if not self._at_work[job.pair]), 0)
        job = self._ready[at]
        del self._ready[at]
        self._at_work[job.pair] += 1
        self._given += job.hold is not None
        return job

    def _is_over(self) -> bool:
        if self._end_s is not None and time.monotonic() >= self._end_s:
            return True
        return self._most is not None and self._given >= self._most
