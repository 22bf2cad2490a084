# SPDX-License-Identifier: GPL-2.0-only
"""What a worker of a cluster makes trials with: a run of its own for each kernel it is asked for.

A worker knows a kernel by its digest. It has the image, the modules and the initramfs of the
machine that asks, each by digest, and makes the same trial with them as that machine would.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.deadline import Deadline
from harness.resources import cache_root, runs_root
from harness.tools.race.catalogue import find_races
from harness.tools.race.trial import Trials
from harness.vm.cluster.artefacts import artefact_path
from harness.vm.guest.session import Fresh, GuestSettings, Session
from harness.vm.host.accel import choose_accel
from harness.vm.host.cache import Store
from harness.vm.host.capacity import measure_host, time_scale

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from harness.errors import HarnessError, KernelVerdict, KlpError, RaceShown

_PROBE_S = 60.0
# A campaign that ended without a word, with its machine, leaves templates: 256 MiB each.
_IDLE_S = 300.0
_MOST_BYTES = 16 << 20


@dataclass(frozen=True, kw_only=True)
class TrialConditions:
    """What all trials of a campaign have in common: plain data, and files by their digests.

    ``kernel`` is the kernel's digest, which names all that went into it. ``accel`` is what was
    asked for. So many guests of the campaign run on one machine at a time.
    """

    kernel: str
    version: str
    source: str
    image: str
    base: str
    modules: tuple[tuple[str, str], ...]
    boot_modules: tuple[tuple[str, str], ...]
    slowness: float
    boot_args: tuple[str, ...]
    accel: str
    guests: int


@dataclass(frozen=True, kw_only=True)
class TrialOrder:
    """One trial: a function of kernel, reproducer and seed."""

    conditions: TrialConditions
    race: str
    seed: int


@dataclass(frozen=True, kw_only=True)
class TrialAnswer:
    """What came of a trial on the machine ``host``; ``files`` are the logs of its guest."""

    seconds: float
    host: str
    shown: RaceShown | None
    failed: KernelVerdict | None
    error: HarnessError | None
    files: tuple[tuple[str, bytes], ...]


@dataclass(frozen=True, kw_only=True)
class FetchedKernel:
    """A kernel of which the image is here. Implements harness.vm.kernel.kernel.Bootable."""

    version: str
    digest: str
    image: Path
    source: str
    slowness: float
    boot_args: tuple[str, ...]
    boot_modules: tuple[Path, ...] = ()

    def describe(self) -> str:
        """Return version and origin in words."""
        return f"{self.version} ({self.source})"


def try_order(order: TrialOrder) -> TrialAnswer:
    """Make a trial on this machine; raises HarnessError when no guest can run here at all."""
    (race,) = find_races([order.race])
    with WORKER_RUNS.using(order.conditions) as trials:
        trial = trials(race, order.seed)
    said = trial.shown or trial.failed or trial.error
    return TrialAnswer(
        seconds=trial.seconds,
        host=socket.gethostname(),
        shown=trial.shown,
        failed=trial.failed,
        error=trial.error,
        files=() if said is None else _taken(said),
    )


def close_idle_runs() -> None:
    """End the runs of this worker that no trial uses."""
    WORKER_RUNS.close_idle(0.0)


class _WorkerRun:
    """A run in a folder of its own, until it is closed."""

    def __init__(self, conditions: TrialConditions) -> None:
        self.users = 0
        self.last_used_s = time.monotonic()
        store = Store(cache_root())
        choice = choose_accel(conditions.accel, Deadline.after(_PROBE_S))
        name = f"{time.strftime('%Y%m%d-%H%M%S')}-worker-{os.getpid()}-{conditions.kernel[:8]}"
        self._folder = runs_root() / name
        settings = GuestSettings(
            accel=choice.accel,
            time_scale=time_scale(
                choice.accel, guests=conditions.guests, cores=measure_host().cores
            ),
            fresh=Fresh.SNAPSHOT,
        )
        self._stack = contextlib.ExitStack()
        session = self._stack.enter_context(
            Session(self._folder, settings, store, base=artefact_path(store, conditions.base))
        )
        kernel = FetchedKernel(
            version=conditions.version,
            digest=conditions.kernel,
            image=artefact_path(store, conditions.image),
            source=conditions.source,
            slowness=conditions.slowness,
            boot_args=conditions.boot_args,
            boot_modules=tuple(
                self._named("boot", name, artefact_path(store, digest))
                for name, digest in conditions.boot_modules
            ),
        )
        modules = {
            name: self._named("modules", f"{name}.ko", artefact_path(store, digest))
            for name, digest in conditions.modules
        }
        self.trials = Trials(session, kernel, modules)

    def close(self) -> None:
        """End its run."""
        self._stack.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _named(self, place: str, name: str, content: Path) -> Path:
        # A module is known by its file's name.
        path = self._folder / place / name
        path.parent.mkdir(exist_ok=True)
        path.symlink_to(content)
        return path


class WorkerRuns:
    """The runs of this process, one for each set of conditions."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[TrialConditions, _WorkerRun] = {}
        self._timer: threading.Timer | None = None

    @contextlib.contextmanager
    def using(self, conditions: TrialConditions) -> Iterator[Trials]:
        """Give what makes trials there; raises what an accelerator or a session raises."""
        with self._lock:
            worker_run = self._open.get(conditions)
            if worker_run is None:
                worker_run = self._open[conditions] = _WorkerRun(conditions)
            worker_run.users += 1
        try:
            yield worker_run.trials
        finally:
            with self._lock:
                worker_run.users -= 1
                worker_run.last_used_s = time.monotonic()
                self._wake_later()

    def close_idle(self, idle_s: float = _IDLE_S) -> None:
        """End those that no trial has used for so long."""
        with self._lock:
            now_s = time.monotonic()
            for conditions, worker_run in list(self._open.items()):
                if not worker_run.users and now_s - worker_run.last_used_s >= idle_s:
                    del self._open[conditions]
                    worker_run.close()
            if self._open:
                self._wake_later()

    def _wake_later(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = threading.Timer(_IDLE_S, self.close_idle)
        self._timer.daemon = True
        self._timer.start()


WORKER_RUNS = WorkerRuns()


def _taken(said: KlpError) -> tuple[tuple[str, bytes], ...]:
    """Return the logs that a failure names, and remove them: they go to who asked."""
    folder, said.artefacts = said.artefacts, None
    if folder is None or not folder.is_dir():
        return ()
    files = tuple(
        (str(path.relative_to(folder)), _content(path))
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    )
    shutil.rmtree(folder, ignore_errors=True)
    return files


def _content(path: Path) -> bytes:
    content = path.read_bytes()
    if len(content) <= _MOST_BYTES:
        return content
    note = f"(the first {len(content) - _MOST_BYTES} bytes were left out)\n"
    return note.encode() + content[-_MOST_BYTES:]
