# SPDX-License-Identifier: GPL-2.0-only
"""Where the trials of a campaign run: in guests of this process, or on a cluster."""

from __future__ import annotations

import contextlib
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.tools.race.trial import GuestTrials
from harness.vm.guest import runs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from harness.tools.race.campaign import TryOne
    from harness.vm.cluster.client import Cluster
    from harness.vm.guest.watching import GuestWatch
    from harness.vm.host.accel import AccelChoice
    from harness.vm.kernel.kernel import Kernel


@dataclass(frozen=True, kw_only=True)
class TrialMaker:
    """What makes trials, and how many at a time it can."""

    try_one: TryOne
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
    watch: GuestWatch | None = None,
) -> Iterator[TrialMaker]:
    """Prepare to make trials, ``guests`` at a time and ``most`` in all, where those are given.

    ``watch`` follows guests here. Logs stay when ``keep`` returns True at the end; those of guests
    here also after an error.
    """
    if cluster is None:
        here = _at_most(guests or runs.guests_at_a_time(choice), most)
        with runs.open_session(choice, name="race", guests=here, keep=keep, watch=watch) as session:
            yield TrialMaker(try_one=GuestTrials(session, kernel, modules), guests=here)
        return
    from harness.tools.race.on_cluster import RemoteTrials

    folder = runs.make_folder("race")
    trials = RemoteTrials(cluster, kernel, modules, store=runs.store(), accel=accel, folder=folder)
    try:
        there = _at_most(sum(cluster.threads().values()), guests)
        yield TrialMaker(try_one=trials, guests=_at_most(there, most))
    finally:
        trials.close()
        if not keep():
            shutil.rmtree(folder, ignore_errors=True)


def _at_most(count: int, limit: int | None) -> int:
    return count if limit is None else min(count, limit)
