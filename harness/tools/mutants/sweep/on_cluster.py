# SPDX-License-Identifier: GPL-2.0-only
"""The tests of a sweep on a cluster: a test on a mutant is one job, in a guest of a worker.

A worker obtains the clean kernel from its spec, as this machine does, makes its kernel of mutants
itself, and both have to be the same. Its template, and the processes that run the tests, stay from
job to job.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

from harness.cli.same_kernel import obtain_same
from harness.deadline import Deadline
from harness.errors import HarnessError
from harness.resources import Resource, resource_dir
from harness.tools.mutants.sweep.kernel_of_mutants import obtain_mutants
from harness.tools.mutants.sweep.sweeping import open_workers, words_for_tests
from harness.vm.cluster.client import most_on_one_host
from harness.vm.cluster.open_runs import OpenRuns
from harness.vm.guest import runs
from harness.vm.kernel.module import obtain_modules

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harness.cli.options import KernelOptions
    from harness.tools.mutants.sweep.messages import Job, Ran
    from harness.vm.cluster.client import Cluster
    from harness.vm.kernel.patch_file import PatchFile

_GENERATE_S = 3600.0


@dataclass(frozen=True, kw_only=True)
class SweepConditions:
    """What all tests of a sweep on a cluster have in common: plain data.

    ``digest`` is that of the clean kernel, ``holding`` that of the kernel of mutants. ``accel`` is
    the value of --accel.
    """

    kernel: KernelOptions
    digest: str
    holding: str
    files: tuple[str, ...]
    series: tuple[PatchFile, ...]
    hooks: bool
    accel: str


@dataclass(frozen=True, kw_only=True)
class TestOrder:
    """Tests to run with a mutant on, each in so many seconds, beside ``guests`` on one machine.

    Without a job, the names of all tests are asked for.
    """

    __test__ = False

    conditions: SweepConditions
    guests: int
    job: Job | None = None
    limits_s: tuple[float, ...] = ()


class ClusterTests:
    """Runs tests on a cluster. Implements RunsTests; several threads may use it at once."""

    def __init__(self, cluster: Cluster, conditions: SweepConditions) -> None:
        threads = cluster.threads()
        self._cluster = cluster
        self._conditions = conditions
        self._guests = most_on_one_host(threads)
        self.at_a_time = max(1, sum(threads.values()))
        """How many jobs the workers do at a time."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._cluster.on_each_worker(close_idle_runs)

    def tests(self) -> tuple[str, ...]:
        """Return the names of all tests; raises what `Cluster.call` does."""
        order = TestOrder(conditions=self._conditions, guests=self._guests)
        names = self._cluster.call(names_of_tests, order, {}).result
        assert isinstance(names, tuple)
        return names

    def run(self, job: Job, *, limit_s: Callable[[str], float]) -> Iterator[Ran]:
        """Yield how each test of a job ends; raises what `Workers.run` and `Cluster.call` do."""
        order = TestOrder(
            conditions=self._conditions,
            guests=self._guests,
            job=job,
            limits_s=tuple(limit_s(test) for test in job.tests),
        )
        ran = self._cluster.call(run_tests, order, {}).result
        assert isinstance(ran, tuple)
        yield from ran


def names_of_tests(order: TestOrder) -> tuple[str, ...]:
    """Return the names of all tests that this worker has."""
    with _RUNS.using((order.conditions, order.guests)) as run:
        return run.workers.tests()


def run_tests(order: TestOrder) -> tuple[Ran, ...]:
    """Return how each test of a job has ended, up to the first that fails."""
    assert order.job is not None
    limits = dict(zip(order.job.tests, order.limits_s, strict=True))
    with _RUNS.using((order.conditions, order.guests)) as run:
        return tuple(run.workers.run(order.job, limit_s=limits.__getitem__))


def close_idle_runs() -> None:
    """End the runs of this worker that no test uses."""
    _RUNS.close_idle(0.0)


class _WorkerRun:
    """The kernel of mutants on this machine, its template, and processes that run tests on it."""

    def __init__(self, key: tuple[SweepConditions, int]) -> None:
        conditions, guests = key
        clean = obtain_same(conditions.kernel.request(), conditions.digest)
        made = obtain_mutants(
            clean,
            conditions.files,
            series=conditions.series,
            hooks=conditions.hooks,
            store=runs.store(),
            deadline=Deadline.after(_GENERATE_S),
        )
        switched = replace(conditions.kernel, patches=(made.patch,))
        try:
            holding = obtain_same(switched.request(), conditions.holding)
        except HarnessError as error:
            raise HarnessError(
                "this worker makes another kernel of mutants than the machine that sent the job",
                hint="parser and compiler have to be the same on all machines",
                details=(str(error),),
            ) from error
        obtain_modules(
            clean,
            resource_dir(Resource.LIVEPATCH_MODULES),
            store=runs.store(),
            deadline=Deadline.after(_GENERATE_S),
        )
        words = words_for_tests(switched, conditions.accel)
        self._stack = contextlib.ExitStack()
        self.workers = self._stack.enter_context(
            open_workers(holding, runs.accelerator(conditions.accel), words, guests=guests)
        )

    def close(self) -> None:
        """End the processes and their guests."""
        self._stack.close()


# Dask calls run_tests() by its name: what a worker keeps from job to job has no other owner.
_RUNS = OpenRuns(_WorkerRun)
