# SPDX-License-Identifier: GPL-2.0-only
"""A campaign on two workers, of which one is killed in the middle."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from harness.errors import RaceShown
from harness.resources import cache_root
from harness.tools.race.campaign import Campaign, Extent
from harness.tools.race.catalogue import find_races
from harness.tools.race.on_cluster import RemoteTrials
from harness.vm.cluster.client import connected
from harness.vm.host.cache import Store
from tests.unit.dask_machines import Machines

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from harness.vm.kernel.kernel import Kernel

TRIALS = 3


@pytest.mark.slow(35)
def test_a_worker_that_is_killed_costs_no_trial(
    kernel: Kernel,
    sample_modules: Mapping[str, Path],
    tmp_path: Path,
    pytestconfig: pytest.Config,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every trial is counted once, and each hit lies here with what its guest left elsewhere."""
    monkeypatch.setenv("KLP_HARNESS_RUNS", str(tmp_path / "runs"))
    (race,) = find_races(["exit-use-after-free"])
    with ExitStack() as stack:
        machines = Machines(tmp_path, stack)
        machines.add_worker()
        machines.add_worker()
        cluster = stack.enter_context(connected(machines.address))
        trials = RemoteTrials(
            cluster,
            kernel,
            sample_modules,
            store=Store(cache_root()),
            accel=str(pytestconfig.getoption("accel")),
            folder=tmp_path / "here",
        )
        extent = Extent(seed=3, trials=TRIALS, go_on=True)
        campaign = Campaign([race], extent)
        for number, _ in enumerate(campaign.run(trials, guests=2)):
            if number == 0:
                # Each worker has a trial now, or is about to.
                machines.kill(0)
        assert len(cluster.threads()) == 1
        trials.close()
    found = campaign.found[race.name]
    assert sorted(trial.seed for trial in found.trials) == [3, 4, 5]
    assert [trial.error or trial.failed for trial in found.trials] == [None] * TRIALS
    assert len(found.hits) == TRIALS
    for hit in found.hits:
        assert isinstance(hit.shown, RaceShown)
        assert hit.shown.artefacts == tmp_path / "here" / "guests" / f"{race.name}-{hit.seed}"
        assert "livepatch: enabling patch" in (hit.shown.artefacts / "console.log").read_text()
