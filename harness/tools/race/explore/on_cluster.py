# SPDX-License-Identifier: GPL-2.0-only
"""Pairs on a cluster: one pair is one job, whose trials a worker makes in guests of its own.

A worker obtains the kernel from its spec, as this machine does, and both have to get the same
digest. A state's guest stays ready there for the next pair that begins in it.
"""

from __future__ import annotations

import contextlib
import shutil
import threading
import time
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from harness.cli.same_kernel import obtain_same
from harness.deadline import Deadline
from harness.resources import Resource, resource_dir
from harness.threads import run_jobs
from harness.tools.race.explore.campaign import Campaign
from harness.tools.race.explore.kept import KeptTrials
from harness.tools.race.explore.pairs import find_pairs
from harness.tools.race.explore.report import result_of
from harness.tools.race.explore.session import open_scenes
from harness.tools.race.explore.trial import Trials
from harness.tools.race.known_bugs import load_known
from harness.vm.cluster.client import most_on_one_host
from harness.vm.cluster.open_runs import OpenRuns
from harness.vm.guest import runs
from harness.vm.kernel.module import obtain_modules

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from harness.tools.race.explore.campaign import Extent
    from harness.tools.race.explore.pairs import Pair, State
    from harness.tools.race.explore.results import ExploreResult
    from harness.tools.race.explore.run import PairConditions
    from harness.vm.cluster.client import Cluster

_MODULES_S = 1800.0


@dataclass(frozen=True, kw_only=True)
class PairOrder:
    """One pair to try, beside so many ``guests`` of the campaign on one machine in all.

    ``kept`` are the lines of its earlier trials.
    """

    conditions: PairConditions
    guests: int
    pair: str
    extent: Extent
    kept: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class PairAnswer:
    """What became of a pair; ``kept`` are the lines of its new trials."""

    result: ExploreResult
    kept: tuple[str, ...]


def results_on(
    cluster: Cluster,
    pairs: Sequence[Pair],
    extent: Extent,
    conditions: PairConditions,
    *,
    guests: int | None,
    kept: KeptTrials | None,
) -> Iterator[ExploreResult]:
    """Yield the result of each pair that is begun; raises what `Cluster.call` does.

    ``guests`` at a time in all, by default as many as there are. When the caller stops, the workers
    finish what they have begun; nobody waits for it.
    """
    threads = cluster.threads()
    at_a_time = max(1, min(sum(threads.values()), guests or sum(threads.values())))
    on_one_host = min(most_on_one_host(threads), at_a_time)
    end_s = None if extent.seconds is None else time.monotonic() + extent.seconds

    def jobs() -> Iterator[PairOrder]:
        for pair in pairs:
            left_s = None if end_s is None else end_s - time.monotonic()
            if left_s is not None and left_s <= 0:
                return
            yield PairOrder(
                conditions=conditions,
                guests=on_one_host,
                pair=str(pair),
                extent=replace(extent, seconds=left_s),
                kept=kept.lines_of(str(pair)) if kept is not None else (),
            )

    def explore(order: PairOrder) -> ExploreResult:
        answer = cluster.call(explore_pair, order, {}).result
        assert isinstance(answer, PairAnswer)
        if kept is not None:
            kept.add_lines(answer.kept)
        return answer.result

    try:
        yield from run_jobs(jobs(), explore, at_a_time=at_a_time, name="pairs")
    finally:
        cluster.on_each_worker(close_idle_runs)


def explore_pair(order: PairOrder) -> PairAnswer:
    """Make the trials of a pair on this machine; raises what keeps it from making any."""
    (pair,) = find_pairs([order.pair])
    conditions = order.conditions
    folder = runs.make_folder("explore-pair")
    file = folder / "trials"
    file.write_text("".join(f"{line}\n" for line in order.kept))
    try:
        with (
            _RUNS.using((conditions, order.guests)) as worker_run,
            worker_run.trials(pair.state) as trials,
        ):
            kept = KeptTrials(file, conditions.digest, oracle=conditions.oracle)
            campaign = Campaign([pair], order.extent, trials, kept)
            for _ in campaign.run(guests=1):
                pass
            result = result_of(
                campaign.pairs[0],
                load_known((), worker_run.version),
                words=conditions.words,
                excuse_expected=conditions.excuse_expected,
            )
        lines = file.read_text().splitlines()[len(order.kept) :]
        return PairAnswer(result=result, kept=tuple(lines))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def close_idle_runs() -> None:
    """End the runs of this worker that no pair uses."""
    _RUNS.close_idle(0.0)


class _Shared(Trials):
    """The trials of one pair among several: when it ends, others may need the state."""

    def drop(self, state: State) -> None:
        """Leave it."""


class _WorkerRun:
    """A run with the guests of states, until it is closed."""

    def __init__(self, key: tuple[PairConditions, int]) -> None:
        conditions, guests = key
        kernel = obtain_same(conditions.request, conditions.digest)
        self.version = kernel.version
        modules = obtain_modules(
            kernel,
            resource_dir(Resource.LIVEPATCH_MODULES),
            store=runs.store(),
            deadline=Deadline.after(_MODULES_S),
        )
        self._lock = threading.Lock()
        self._users: Counter[State] = Counter()
        self._stack = contextlib.ExitStack()
        self._scenes = self._stack.enter_context(
            open_scenes(
                runs.accelerator(conditions.accel),
                kernel,
                modules,
                guests=guests,
                cpus=conditions.cpus,
                oracle=conditions.oracle,
            )
        )

    @contextlib.contextmanager
    def trials(self, state: State) -> Iterator[Trials]:
        """Yield what makes trials of pairs that begin in a state.

        Guests of other states that no pair uses any more are freed: pairs come state by state.
        """
        with self._lock:
            self._users[state] += 1
            for other in [each for each, users in self._users.items() if not users]:
                del self._users[other]
                self._scenes.drop(other)
        try:
            yield _Shared(self._scenes)
        finally:
            with self._lock:
                self._users[state] -= 1

    def close(self) -> None:
        """End the run and remove its folder."""
        self._stack.close()


# Dask calls explore_pair() by its name: what a worker keeps from pair to pair has no other owner.
_RUNS = OpenRuns(_WorkerRun)
