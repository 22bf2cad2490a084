# SPDX-License-Identifier: GPL-2.0-only
"""Trials on a cluster, as the machine makes them that sends them there."""

from __future__ import annotations

import json
import threading
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from harness.deadline import Deadline
from harness.errors import HarnessError
from harness.tools.race.campaign import Trial
from harness.tools.race.trial import NOTE
from harness.tools.race.worker_runs import (
    TrialAnswer,
    TrialConditions,
    TrialOrder,
    close_idle_runs,
    try_order,
)
from harness.vm.cluster.artefacts import digest_of
from harness.vm.cluster.client import most_on_one_host
from harness.vm.guest.initramfs import build_base

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from harness.tools.race.reproducer import Reproducer
    from harness.vm.cluster.client import Cluster
    from harness.vm.host.cache import Store
    from harness.vm.kernel.kernel import Kernel

_BASE_S = 300.0


class RemoteTrials:
    """Makes trials on a cluster, as GuestTrials does in this process. Several threads may use it.

    The logs of trials that ended with a failure go to ``folder``, each in a folder of its own.
    """

    def __init__(
        self,
        cluster: Cluster,
        kernel: Kernel,
        modules: Mapping[str, Path],
        *,
        store: Store,
        accel: str,
        folder: Path,
    ) -> None:
        self._cluster = cluster
        self._folder = folder
        self._lock = threading.Lock()
        self.workers: dict[str, int] = {}
        """How many trials each worker has answered."""
        base = build_base(store, deadline=Deadline.after(_BASE_S))
        self._needs: dict[str, Path] = {}

        def digest(path: Path) -> str:
            found = digest_of(path)
            self._needs[found] = path
            return found

        self._conditions = TrialConditions(
            kernel=kernel.digest,
            version=kernel.version,
            source=kernel.source,
            image=digest(kernel.image),
            base=digest(base),
            modules=tuple((name, digest(path)) for name, path in sorted(modules.items())),
            boot_modules=tuple((path.name, digest(path)) for path in kernel.boot_modules),
            slowness=kernel.slowness,
            boot_args=kernel.boot_args,
            accel=accel,
            guests=most_on_one_host(cluster.threads()),
        )

    def __call__(self, race: Reproducer, seed: int) -> Trial:
        """Make one trial; raises what `Cluster.call` does."""
        order = TrialOrder(conditions=self._conditions, race=race.name, seed=seed)
        answer = self._cluster.call(try_order, order, self._needs)
        ended = answer.result
        assert isinstance(ended, TrialAnswer)
        with self._lock:
            self.workers[answer.worker] = self.workers.get(answer.worker, 0) + 1
        self._keep(race, seed, ended, answer.worker)
        return Trial(race=race, seed=seed, seconds=ended.seconds, ended_by=ended.ended_by)

    def close(self) -> None:
        """End what the workers have open for this campaign."""
        self._cluster.on_each_worker(close_idle_runs)

    def _keep(self, race: Reproducer, seed: int, answer: TrialAnswer, worker: str) -> None:
        error = answer.ended_by
        if error is None or not answer.files:
            return
        folder = self._folder / "guests" / f"{race.name}-{seed}"
        for name, content in answer.files:
            path = folder / _checked(name)
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            path.write_bytes(content)
        note = folder / NOTE
        if note.is_file():
            facts = json.loads(note.read_text(encoding="utf-8"))
            facts |= {"worker": worker, "host": answer.host}
            note.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
        error.artefacts = folder


def _checked(name: str) -> PurePosixPath:
    """Return a name that came from another machine, if it stays below its folder."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise HarnessError(f"a worker sent a file named {name}")
    return path
