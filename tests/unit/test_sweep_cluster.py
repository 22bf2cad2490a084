# SPDX-License-Identifier: GPL-2.0-only
"""Tests of a sweep that workers of a cluster run, with answers that a test gives."""

from __future__ import annotations

import pickle
from contextlib import contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
from typer.testing import CliRunner

from harness.cli.app import app
from harness.cli.options import KernelOptions
from harness.errors import ExitCode, HarnessError
from harness.report.base import CheckOutcome
from harness.tools.mutants.sweep import on_cluster
from harness.tools.mutants.sweep.messages import Job, Ran
from harness.tools.mutants.sweep.on_cluster import ClusterTests, SweepConditions, TestOrder
from harness.tools.mutants.sweep.pool import OutOfTime, WorkerLost
from harness.vm.cluster.open_runs import OpenRuns
from harness.vm.cluster.worker import Answer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from harness.vm.cluster.client import Cluster

CONDITIONS = SweepConditions(
    kernel=KernelOptions(),
    digest="clean",
    holding="mutants",
    files=("kernel/livepatch",),
    series=(),
    hooks=False,
    accel="tcg",
)
TESTS = ("test_a.py::test_one", "test_a.py::test_two")


class LocalWorkers:
    """The processes of a worker: each test passes, but for the one that fails."""

    def __init__(self, fail: str = "", raised: Exception | None = None) -> None:
        self.limits: dict[str, float] = {}
        self._fail, self._raised = fail, raised

    def tests(self) -> tuple[str, ...]:
        return TESTS

    def run(self, job: Job, *, limit_s: Callable[[str], float]) -> Iterator[Ran]:
        if self._raised is not None:
            raise self._raised
        for test in job.tests:
            self.limits[test] = limit_s(test)
            failed = test == self._fail
            outcome = CheckOutcome.FAILED if failed else CheckOutcome.PASSED
            yield Ran(test=test, outcome=outcome, seconds=1.0, seen=(f"{job.number}",))
            if failed:
                return


class HereCluster:
    """A cluster of three jobs at a time on two hosts, whose workers are this process.

    Orders and answers are pickled, as on their way to another process.
    """

    def __init__(self) -> None:
        self.orders: list[TestOrder] = []
        self.closed: list[object] = []

    def threads(self) -> dict[str, int]:
        return {"tcp://127.0.0.1:1": 2, "tcp://127.0.0.2:2": 1}

    def call(
        self, function: Callable[[Any], Any], order: TestOrder, needs: dict[str, Path]
    ) -> Answer:
        assert needs == {}
        self.orders.append(order)
        sent, given = pickle.loads(pickle.dumps((function, order)))
        try:
            result = sent(given)
        except Exception as error:  # noqa: BLE001 - whatever it is, it travels
            raise pickle.loads(pickle.dumps(error)) from None
        return Answer(worker="1", result=pickle.loads(pickle.dumps(result)))

    def on_each_worker(self, function: object) -> None:
        self.closed.append(function)


@contextmanager
def connected(
    monkeypatch: pytest.MonkeyPatch, workers: LocalWorkers
) -> Iterator[tuple[HereCluster, ClusterTests, list[object]]]:
    """Give the tests of a cluster whose runs have these workers; the list has what was opened."""
    opened: list[object] = []

    def open_run(key: object) -> Any:
        opened.append(key)
        return SimpleNamespace(workers=workers, close=lambda: None)

    monkeypatch.setattr(on_cluster, "_RUNS", OpenRuns(open_run))
    cluster = HereCluster()
    with ClusterTests(cast("Cluster", cluster), CONDITIONS) as tests:
        yield cluster, tests, opened


def test_a_job_is_run_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """With its limits, in what the worker has opened for an earlier one; that ends at the end."""
    workers = LocalWorkers()
    with connected(monkeypatch, workers) as (cluster, tests, opened):
        assert tests.at_a_time == 3
        assert tests.tests() == TESTS
        ran = list(tests.run(Job(number=7, tests=TESTS), limit_s=lambda test: len(test)))
        assert [each.test for each in ran] == list(TESTS)
        assert ran[0].seen == ("7",)
        assert workers.limits == {test: len(test) for test in TESTS}
        assert len(opened) == 1
        assert {order.guests for order in cluster.orders} == {2}
    assert cluster.closed == [on_cluster.close_idle_runs]


def test_the_first_failure_ends_a_job(monkeypatch: pytest.MonkeyPatch) -> None:
    """What came before it is an answer, too."""
    with connected(monkeypatch, LocalWorkers(fail=TESTS[0])) as (_, tests, _):
        (ran,) = tests.run(Job(number=7, tests=TESTS), limit_s=lambda _: 1.0)
    assert ran.outcome is CheckOutcome.FAILED


@pytest.mark.parametrize("error", [OutOfTime(), WorkerLost("it said this")], ids=repr)
def test_what_ends_a_test_travels(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """The sweep judges by it: a mutant that hangs, a worker that is lost."""
    with (
        connected(monkeypatch, LocalWorkers(raised=error)) as (_, tests, _),
        pytest.raises(type(error)) as raised,
    ):
        list(tests.run(Job(number=7, tests=TESTS), limit_s=lambda _: 1.0))
    assert raised.value.args == error.args


def test_another_kernel_of_mutants_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mutant's number would mean another mutant there."""

    def obtain(request: Any, digest: str) -> Any:
        if digest == "mutants":
            raise HarnessError("6.1 is another kernel on this worker")
        return SimpleNamespace()

    made = SimpleNamespace(patch="/there/mutant-switches.patch")
    monkeypatch.setattr(on_cluster, "obtain_same", obtain)
    monkeypatch.setattr(on_cluster, "obtain_mutants", lambda *_, **__: made)
    monkeypatch.setattr(KernelOptions, "request", lambda _: None)
    with pytest.raises(HarnessError, match="another kernel of mutants") as refused:
        on_cluster._WorkerRun((CONDITIONS, 1))
    assert refused.value.details == ("6.1 is another kernel on this worker",)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--module=here", "--workers=2"], "it takes no cluster"),
        (["--kernel=deb:linux-image-amd64", "--workers=2"], "workers cannot fetch"),
        (["--workers=2", "--cluster=tls://h:1"], "give one of them"),
    ],
)
def test_what_no_worker_can_do(words: list[str], said: str) -> None:
    """Said before anything is built."""
    ran = CliRunner().invoke(app, ["mutants", "sweep", *words])
    assert ran.exit_code == ExitCode.USAGE
    assert said in " ".join(ran.output.split())
