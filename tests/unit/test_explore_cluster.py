# SPDX-License-Identifier: GPL-2.0-only
"""Pairs that workers of a cluster try, with answers that a test gives."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast

import pytest
from typer.testing import CliRunner

from harness.cli.app import app
from harness.cli.executors import check_travels
from harness.cli.options import KernelOptions
from harness.errors import ExitCode, HarnessError, UsageError
from harness.report.base import CheckOutcome
from harness.tools.race.explore.campaign import Extent, PairTrials
from harness.tools.race.explore.kept import KeptTrial, KeptTrials
from harness.tools.race.explore.on_cluster import PairAnswer, PairOrder, results_on
from harness.tools.race.explore.pairs import find_pairs
from harness.tools.race.explore.report import result_of
from harness.tools.race.explore.run import PairConditions, ThereRun
from harness.vm.cluster.worker import Answer
from harness.vm.kernel.build import KernelRequest

if TYPE_CHECKING:
    from harness.vm.cluster.client import Cluster

PAIRS = find_pairs(["fork-load", "fork-disable", "fork-replace"])
CONDITIONS = PairConditions(
    request=KernelRequest(),
    digest="one",
    accel="tcg",
    cpus=2,
    oracle=True,
    words=("--kernel=6.1",),
    excuse_expected=False,
)


class Workers:
    """Two workers of one machine, which have an answer to each order."""

    def __init__(self, fail: str = "") -> None:
        self.orders: list[PairOrder] = []
        self.closed = 0
        self._fail = fail

    def threads(self) -> dict[str, int]:
        return {"tcp://127.0.0.1:1": 1, "tcp://127.0.0.1:2": 1}

    def call(self, _: object, order: PairOrder, needs: dict[str, Path]) -> Answer:
        assert needs == {}
        self.orders.append(order)
        if order.pair == self._fail:
            raise HarnessError("the worker is gone")
        (pair,) = find_pairs([order.pair])
        line = {"kernel": "one", "pair": order.pair, "hold": "f", "oracle": True}
        kept = json.dumps(line | KeptTrial(reached=True, blocked=False)._asdict())
        trials = PairTrials(pair, tried=1)
        return Answer(
            worker="1", result=PairAnswer(result=result_of(trials, (), words=()), kept=(kept,))
        )

    def on_each_worker(self, _: object) -> None:
        self.closed += 1


def explored(workers: Workers, kept: KeptTrials | None = None, **more: Any) -> ThereRun:
    extent = Extent(**more)
    cluster = cast("Cluster", workers)
    results = results_on(cluster, PAIRS, extent, CONDITIONS, guests=1, kept=kept)
    return ThereRun(PAIRS, results)


class Quiet:
    """A terminal of which nothing is read."""

    def __getattr__(self, _: str) -> Any:
        return lambda *_, **__: self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing was opened."""


def test_each_pair_is_one_job(tmp_path: Path) -> None:
    """Its trials are kept here as they come, and go with it when the campaign is taken up."""
    file = tmp_path / "trials"
    workers = Workers()
    run = explored(workers, KeptTrials(file, "one"))
    run.watch(cast("Any", Quiet()))
    assert [order.pair for order in workers.orders] == [str(pair) for pair in PAIRS]
    assert {order.guests for order in workers.orders} == {1}
    assert all(result.outcome is CheckOutcome.NOT_SHOWN for result in run.results())
    assert workers.closed == 1
    kept = KeptTrials(file, "one")
    assert kept.trial("fork-load", "f") == KeptTrial(reached=True, blocked=False)
    again = Workers()
    explored(again, kept).watch(cast("Any", Quiet()))
    assert [json.loads(*order.kept)["pair"] for order in again.orders] == list(map(str, PAIRS))
    assert KeptTrials(file, "another").lines_of("fork-load") == ()


def test_what_was_not_begun_is_not_run() -> None:
    """The time was up, or the cluster is gone: what is known is reported."""
    run = explored(Workers(), seconds=0)
    run.watch(cast("Any", Quiet()))
    assert {result.outcome for result in run.results()} == {CheckOutcome.NOT_RUN}
    run = explored(Workers(fail="fork-disable"))
    with pytest.raises(HarnessError, match="the worker is gone"):
        run.watch(cast("Any", Quiet()))
    outcomes = [result.outcome for result in run.results()]
    assert outcomes == [CheckOutcome.NOT_SHOWN, CheckOutcome.NOT_RUN, CheckOutcome.NOT_RUN]


@pytest.mark.parametrize("words", [["--mutant=no-exit-switch"], ["--trials=3"]])
def test_what_needs_guests_of_this_process(words: list[str]) -> None:
    """Said before anything is connected to."""
    command = ["race", "explore", "fork-load", "--cluster", "tcp://127.0.0.1:1", *words]
    ended = CliRunner().invoke(app, command)
    assert ended.exit_code == ExitCode.USAGE
    assert "are for guests of this process" in ended.stderr


def test_what_does_not_travel() -> None:
    """Workers fetch kernels by themselves: one made of this machine's files is refused."""
    check_travels(KernelOptions(spec="6.1"))
    for options in (
        KernelOptions(spec="deb:linux-image-amd64"),
        KernelOptions(spec="6.1", patches=(Path("a.patch"),)),
        KernelOptions(spec="6.1", fragments=("/here/own.config",)),
        KernelOptions(spec="6.1", config=Path("/here/.config")),
    ):
        with pytest.raises(UsageError, match=r"workers (cannot fetch|have no file)"):
            check_travels(options)
