# SPDX-License-Identifier: GPL-2.0-only
"""Trials, each in a guest of its own."""

from __future__ import annotations

import json
import shutil
import time
from typing import TYPE_CHECKING

from harness.errors import HarnessError, KernelVerdict
from harness.tools.race.campaign import Trial
from harness.tools.race.reproducer import run_steps

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from harness.tools.race.reproducer import Reproducer
    from harness.vm.guest.session import Session
    from harness.vm.kernel.kernel import Bootable

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
