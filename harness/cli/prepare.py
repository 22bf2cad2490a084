# SPDX-License-Identifier: GPL-2.0-only
"""What the commands that start guests do first: accelerator, kernel, modules, a run's folder."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from harness.deadline import Deadline
from harness.guest.session import Fresh, GuestSettings, Session
from harness.host.accel import choose_accel
from harness.host.cache import Store
from harness.host.capacity import measure_host, time_scale
from harness.kernel.build import KernelRequest, obtain_kernel
from harness.kernel.module import obtain_modules
from harness.mutation.catalogue import choose, fitted, load_mutants, series_of
from harness.resources import Resource, cache_root, resource_dir, runs_root

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from harness.cli.invocation import Invocation
    from harness.host.accel import AccelChoice
    from harness.kernel.kernel import Kernel
    from harness.report.terminal import Terminal

_PROBE_S = 60.0
# A debug kernel on a busy machine has taken more than an hour; its progress is shown meanwhile.
_KERNEL_S = 4 * 3600.0
_MODULES_S = 600.0


@dataclass(frozen=True, kw_only=True)
class KernelAsked:
    """The kernel options of one command line."""

    spec: str
    sha256: str | None = None
    fragments: Sequence[str] = ()
    patches: Sequence[Path] = ()

    def request(self) -> KernelRequest:
        """Return what the kernel layer understands."""
        return KernelRequest(
            spec=self.spec,
            sha256=self.sha256,
            fragments=("base", "livepatch", *self.fragments),
            patches=tuple(self.patches),
        )


def prepare_accel(invocation: Invocation, asked: str) -> AccelChoice:
    """Choose the accelerator; raises HarnessError when the one asked for cannot run a guest."""
    invocation.accel = choose_accel(asked, Deadline.after(_PROBE_S))
    return invocation.accel


def prepare_kernel(invocation: Invocation, asked: KernelAsked) -> Kernel:
    """Obtain the kernel, with progress; raises UsageError, HarnessError, KernelBuildFailed."""
    kernel = _obtain(invocation.terminal, asked)
    invocation.kernels.append(kernel)
    return kernel


def with_mutants(terminal: Terminal, asked: KernelAsked, names: Sequence[str]) -> KernelAsked:
    """Return the options with the patches of kernel mutants, which come before those given.

    Each is taken as it is written for the kernel's series, so the clean kernel is obtained first.
    Raises UsageError for a name unknown, and what `prepare_kernel` does.
    """
    if not names:
        return asked
    chosen = choose(load_mutants(resource_dir(Resource.KERNEL_MUTANTS)), names)
    clean = _obtain(terminal, replace(asked, patches=()))
    paths = tuple(mutant.path for mutant in fitted(chosen, series_of(clean.version)))
    return replace(asked, patches=(*paths, *asked.patches))


def prepare_modules(
    terminal: Terminal, kernel: Kernel, folder: Path | None = None
) -> Mapping[str, Path]:
    """Build a folder of module sources, by default the samples: module name to .ko file."""
    with terminal.progress() as progress:
        source = folder if folder is not None else resource_dir(Resource.LIVEPATCH_MODULES)
        progress.stage(f"modules of {source.name} for {kernel.version}")
        return obtain_modules(
            kernel, source, store=Store(cache_root()), deadline=Deadline.after(_MODULES_S)
        )


@contextlib.contextmanager
def run_session(
    choice: AccelChoice,
    *,
    cpus: int,
    fresh: Fresh = Fresh.BOOT,
    name: str,
    guests: int = 1,
    more: Mapping[str, Path] = MappingProxyType({}),
    keep: Callable[[], bool] = lambda: False,
) -> Iterator[Session]:
    """Start a run of so many guests at a time in a folder of its own; ``more`` is what they have.

    The folder goes when all went well. After a failure, raised or told by ``keep`` at the end, the
    guests' logs stay, and nothing else.
    """
    host = measure_host()
    settings = GuestSettings(
        accel=choice.accel,
        time_scale=time_scale(choice.accel, guests=guests, cores=host.cores),
        cpus=cpus,
        fresh=fresh,
    )
    folder = runs_root() / f"{time.strftime('%Y%m%d-%H%M%S')}-{name}-{os.getpid()}"
    try:
        with Session(folder, settings, Store(cache_root()), more=more) as session:
            yield session
    except BaseException:
        _keep_logs(folder)
        raise
    if keep():
        _keep_logs(folder)
    else:
        shutil.rmtree(folder, ignore_errors=True)


def _obtain(terminal: Terminal, asked: KernelAsked) -> Kernel:
    with terminal.progress() as progress:
        return obtain_kernel(
            asked.request(),
            store=Store(cache_root()),
            deadline=Deadline.after(_KERNEL_S),
            progress=progress,
        )


def describe_accel(choice: AccelChoice) -> str:
    """Return the accelerator and why it was chosen, in one line."""
    return f"{choice.accel.value}: {choice.reason}"


def _keep_logs(folder: Path) -> None:
    if not (folder / "guests").is_dir():
        shutil.rmtree(folder, ignore_errors=True)
        return
    for path in folder.iterdir():
        if path.name == "guests":
            continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
