# SPDX-License-Identifier: GPL-2.0-only
"""Trials on a worker of a cluster, which opens a run of its own for each kernel.

A worker knows a kernel by its digest. The machine that sends the trials also sends image, modules
and initramfs, each by digest, so the worker makes the same trial as that machine would.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.tools.race.catalogue import find_races
from harness.tools.race.trial import GuestTrials
from harness.vm.cluster.artefacts import artefact_path
from harness.vm.cluster.open_runs import OpenRuns
from harness.vm.guest import runs
from harness.vm.guest.run_folder import FETCHED

if TYPE_CHECKING:
    from pathlib import Path

    from harness.errors import HarnessError, KernelVerdict, KlpError

_MOST_BYTES = 16 << 20


@dataclass(frozen=True, kw_only=True)
class TrialConditions:
    """What all trials of a campaign have in common: plain data, and files by their digests.

    ``kernel`` is the kernel's digest. ``accel`` is the value of --accel. ``guests`` is how many
    guests of the campaign run on one machine at a time.
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
    """How a trial ended on the machine ``host``; ``files`` are the logs of its guest."""

    seconds: float
    host: str
    ended_by: KernelVerdict | HarnessError | None
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
    root_modules: tuple[Path, ...] = ()

    def describe(self) -> str:
        """Return version and origin in words."""
        return f"{self.version} ({self.source})"


def try_order(order: TrialOrder) -> TrialAnswer:
    """Make a trial on this machine; raises HarnessError when no guest can run here at all."""
    (race,) = find_races([order.race])
    with _RUNS.using(order.conditions) as worker_run:
        trial = worker_run.trials(race, order.seed)
    return TrialAnswer(
        seconds=trial.seconds,
        host=socket.gethostname(),
        ended_by=trial.ended_by,
        files=() if trial.ended_by is None else _taken(trial.ended_by),
    )


def close_idle_runs() -> None:
    """End the runs of this worker that no trial uses."""
    _RUNS.close_idle(0.0)


class _WorkerRun:
    """A run in a folder of its own, until it is closed."""

    def __init__(self, conditions: TrialConditions) -> None:
        store = runs.store()
        self._stack = contextlib.ExitStack()
        session = self._stack.enter_context(
            runs.open_session(
                runs.accelerator(conditions.accel),
                name=f"worker-{conditions.kernel[:8]}",
                guests=conditions.guests,
                base=artefact_path(store, conditions.base),
            )
        )

        def named(place: str, name: str, digest: str) -> Path:
            # A module is known by its file's name.
            path = session.folder / FETCHED / place / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.symlink_to(artefact_path(store, digest))
            return path

        kernel = FetchedKernel(
            version=conditions.version,
            digest=conditions.kernel,
            image=artefact_path(store, conditions.image),
            source=conditions.source,
            slowness=conditions.slowness,
            boot_args=conditions.boot_args,
            boot_modules=tuple(
                named("boot", name, digest) for name, digest in conditions.boot_modules
            ),
        )
        modules = {
            name: named("modules", f"{name}.ko", digest) for name, digest in conditions.modules
        }
        self.trials = GuestTrials(session, kernel, modules)

    def close(self) -> None:
        """End the run and remove its folder."""
        self._stack.close()


# Dask calls try_order() by its name: what a worker keeps from trial to trial has no other owner.
_RUNS = OpenRuns(_WorkerRun)


def _taken(error: KlpError) -> tuple[tuple[str, bytes], ...]:
    """Return the logs that a failure names, and remove them: they go to the sender of the trial."""
    folder, error.artefacts = error.artefacts, None
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
