# SPDX-License-Identifier: GPL-2.0-only
"""Trials: each in a guest of its own, in this process or on a worker of a cluster."""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.errors import HarnessError, KernelVerdict
from harness.tools.race.campaign import Trial
from harness.tools.race.reproducer import run_steps
from harness.vm.guest import runs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from harness.tools.race.campaign import TryOne
    from harness.tools.race.reproducer import Reproducer
    from harness.vm.cluster.client import Cluster
    from harness.vm.guest.session import Session
    from harness.vm.host.accel import AccelChoice
    from harness.vm.kernel.kernel import Bootable, Kernel

NOTE = "trial.json"


class GuestTrials:
    """Makes trials in guests of this process. Several threads may use it at once."""

    def __init__(self, session: Session, kernel: Bootable, modules: Mapping[str, Path]) -> None:
        self._session = session
        self._kernel = kernel
        self._modules = modules

    def __call__(self, race: Reproducer, seed: int) -> Trial:
        """Make one trial; the guest's logs stay unless the kernel held."""
        start_s = time.monotonic()
        folder: Path | None = None
        ended_by: KernelVerdict | HarnessError | None = None
        name = f"{race.name}-{seed}"
        try:
            with self._session.guest(self._kernel, name=name, cpus=race.cpus) as machine:
                folder = machine.folder
                run_steps(race, machine, modules=self._modules, seed=seed)
        except (KernelVerdict, HarnessError) as error:
            ended_by = error
        except TimeoutError as error:
            ended_by = HarnessError(
                f"{race.name} did not get as far as it should: {error}", artefacts=folder
            )
        trial = Trial(race=race, seed=seed, seconds=time.monotonic() - start_s, ended_by=ended_by)
        if folder is not None:
            self._keep(trial, folder)
        return trial

    def _keep(self, trial: Trial, folder: Path) -> None:
        error = trial.ended_by
        if error is None:
            shutil.rmtree(folder)
            return
        note = {
            "reproducer": trial.race.name,
            "seed": trial.seed,
            "kernel": self._kernel.describe(),
            "digest": self._kernel.digest,
            "outcome": type(error).__name__,
            "message": error.message,
            "details": error.details,
        }
        (folder / NOTE).write_text(json.dumps(note, indent=1) + "\n", encoding="utf-8")


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
) -> Iterator[TrialMaker]:
    """Prepare to make trials, ``guests`` at a time and ``most`` in all, where those are given.

    Logs stay when ``keep`` returns True at the end; those of guests here also after an error.
    """
    if cluster is None:
        here = _at_most(guests or runs.guests_at_a_time(choice), most)
        with runs.open_session(choice, name="race", guests=here, keep=keep) as session:
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
