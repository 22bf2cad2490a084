# SPDX-License-Identifier: GPL-2.0-only
"""One trial in a guest of its own."""

from __future__ import annotations

import json
import shutil
import threading
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

from harness.errors import HarnessError, KernelVerdict, RaceShown
from harness.tools.race.campaign import Trial
from harness.tools.race.reproducer import perform

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from harness.tools.race.reproducer import Reproducer
    from harness.vm.guest.machine import Machine
    from harness.vm.guest.session import Session
    from harness.vm.kernel.kernel import Bootable

NOTE = "trial.json"


class Trials:
    """Makes trials on one kernel. Safe to use from several threads."""

    def __init__(self, session: Session, kernel: Bootable, modules: Mapping[str, Path]) -> None:
        self._session = session
        self._kernel = kernel
        self._modules = modules
        self._lock = threading.Lock()
        self._templates: set[int] = set()

    def __call__(self, race: Reproducer, seed: int) -> Trial:
        """Return what came of one trial; the guest's logs stay unless it was quiet."""
        start_s = time.monotonic()
        shown: RaceShown | None = None
        failed: KernelVerdict | None = None
        broken: HarnessError | None = None
        folder: Path | None = None
        try:
            with ExitStack() as stack:
                machine = self._start(race, seed, stack)
                folder = machine.folder
                perform(race, machine, modules=self._modules, seed=seed)
        except RaceShown as error:
            shown = error
        except KernelVerdict as error:
            failed = error
        except HarnessError as error:
            broken = error
        except TimeoutError as error:
            broken = HarnessError(f"{race.name} did not get as far as it should: {error}")
            broken.artefacts = folder
        trial = Trial(
            race=race,
            seed=seed,
            seconds=time.monotonic() - start_s,
            shown=shown,
            failed=failed,
            error=broken,
        )
        if folder is not None:
            self._keep(trial, folder)
        return trial

    def _start(self, race: Reproducer, seed: int, stack: ExitStack) -> Machine:
        name = f"{race.name}-{seed}"
        guest = self._session.guest(self._kernel, name=name, cpus=race.cpus)
        # The first guest makes the template that all others come from.
        with self._lock:
            if race.cpus not in self._templates:
                machine = stack.enter_context(guest)
                self._templates.add(race.cpus)
                return machine
        return stack.enter_context(guest)

    def _keep(self, trial: Trial, folder: Path) -> None:
        said = trial.shown or trial.failed or trial.error
        if said is None:
            shutil.rmtree(folder)
            return
        note = {
            "reproducer": trial.race.name,
            "seed": trial.seed,
            "kernel": self._kernel.describe(),
            "digest": self._kernel.digest,
            "outcome": type(said).__name__,
            "message": said.message,
            "details": said.details,
        }
        (folder / NOTE).write_text(json.dumps(note, indent=1) + "\n", encoding="utf-8")
