# SPDX-License-Identifier: GPL-2.0-only
"""What makes the trials of a campaign: guests of this process, or a cluster."""

from __future__ import annotations

import contextlib
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.tools.race.trial import Trials
from harness.vm.guest import runs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from harness.tools.race.campaign import Trial
    from harness.tools.race.reproducer import Reproducer
    from harness.vm.cluster.client import Cluster
    from harness.vm.host.accel import AccelChoice
    from harness.vm.kernel.kernel import Kernel


@dataclass(frozen=True, kw_only=True)
class TrialMaker:
    """What makes trials, and how many at a time it can."""

    try_one: Callable[[Reproducer, int], Trial]
    guests: int


@contextlib.contextmanager
def open_trials(
    cluster: Cluster | None,
    choice: AccelChoice,
    *,
    accel: str,
    kernel: Kernel,
    modules: Mapping[str, Path],
    guests: int | None,
    most: int | None,
    keep: Callable[[], bool],
) -> Iterator[TrialMaker]:
    """Open the place where trials run, for ``guests`` at a time and ``most`` at the most.

    Logs stay when ``keep`` says so at the end; those of guests here also when something is raised.
    """
    if cluster is None:
        here = guests or runs.guests_at_a_time(choice)
        here = here if most is None else min(here, most)
        with runs.open_session(choice, name="race", guests=here, keep=keep) as session:
            yield TrialMaker(try_one=Trials(session, kernel, modules), guests=here)
        return
    from harness.tools.race.on_cluster import RemoteTrials

    jobs = sum(cluster.threads().values())
    folder = runs.make_folder("race")
    trials = RemoteTrials(cluster, kernel, modules, store=runs.store(), accel=accel, folder=folder)
    try:
        at_a_time = jobs if guests is None else min(guests, jobs)
        yield TrialMaker(try_one=trials, guests=at_a_time if most is None else min(at_a_time, most))
    finally:
        trials.close()
        if not keep():
            shutil.rmtree(folder, ignore_errors=True)
