# SPDX-License-Identifier: GPL-2.0-only
"""Trials on a cluster, seen from the machine that asks for them."""

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
    """Makes trials on a cluster: what Trials is for guests of this process. Safe in threads.

    ``folder`` takes the logs of trials that were not quiet, each in a folder of its own.
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
        by_name = {name: digest_of(path) for name, path in sorted(modules.items())}
        image = digest_of(kernel.image)
        base_digest = digest_of(base)
        self._needs = {image: kernel.image, base_digest: base}
        self._needs |= {digest: modules[name] for name, digest in by_name.items()}
        boot = {path: digest_of(path) for path in kernel.boot_modules}
        self._needs |= {digest: path for path, digest in boot.items()}
        self._conditions = TrialConditions(
            kernel=kernel.digest,
            version=kernel.version,
            source=kernel.source,
            image=image,
            base=base_digest,
            modules=tuple(by_name.items()),
            boot_modules=tuple((path.name, digest) for path, digest in boot.items()),
            slowness=kernel.slowness,
            boot_args=kernel.boot_args,
            accel=accel,
            guests=most_on_one_host(cluster.threads()),
        )

    def __call__(self, race: Reproducer, seed: int) -> Trial:
        """Return what came of one trial; raises what `Cluster.call` does."""
        order = TrialOrder(conditions=self._conditions, race=race.name, seed=seed)
        answer = self._cluster.call(try_order, order, self._needs)
        said = answer.result
        assert isinstance(said, TrialAnswer)
        with self._lock:
            self.workers[answer.worker] = self.workers.get(answer.worker, 0) + 1
        self._keep(race, seed, said, answer.worker)
        return Trial(
            race=race,
            seed=seed,
            seconds=said.seconds,
            shown=said.shown,
            failed=said.failed,
            error=said.error,
        )

    def close(self) -> None:
        """Have the workers end what they began for this campaign."""
        self._cluster.on_each_worker(close_idle_runs)

    def _keep(self, race: Reproducer, seed: int, answer: TrialAnswer, worker: str) -> None:
        error = answer.shown or answer.failed or answer.error
        if error is None or not answer.files:
            return
        folder = self._folder / "guests" / f"{race.name}-{seed}"
        for name, content in answer.files:
            path = folder / _checked(name)
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            path.write_bytes(content)
        note = folder / NOTE
        if note.is_file():
            told = json.loads(note.read_text(encoding="utf-8"))
            told |= {"worker": worker, "host": answer.host}
            note.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
        error.artefacts = folder


def _checked(name: str) -> PurePosixPath:
    """Return a name that came from another machine, if it stays below its folder."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise HarnessError(f"a worker sent a file named {name}")
    return path
