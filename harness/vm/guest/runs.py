# SPDX-License-Identifier: GPL-2.0-only
"""The home of a run: its cache, its private folder, its guests' settings, its session.

Everything that starts guests or keeps logs begins here, so that each of these is decided once.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import time
from types import MappingProxyType
from typing import TYPE_CHECKING

from harness.deadline import Deadline
from harness.resources import cache_root, runs_root
from harness.vm.guest import run_folder
from harness.vm.guest.plugin import PluginMaker, no_plugin
from harness.vm.guest.run_folder import GUESTS, LOCK, writing
from harness.vm.guest.session import MEMORY_MIB, Fresh, GuestSettings, Session
from harness.vm.host.accel import choose_accel
from harness.vm.host.cache import Store
from harness.vm.host.capacity import (
    default_guests,
    default_tests,
    measure_host,
    time_scale,
    waiting_guests,
)
from harness.vm.host.temporary import sweep_temporary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from harness.vm.guest.keeper import Keeper
    from harness.vm.guest.root_disk import RootDisk
    from harness.vm.guest.watching import GuestWatch
    from harness.vm.host.accel import Accel, AccelChoice

_PROBE_S = 60.0


def store() -> Store:
    """Return the cache that all runs of this user share."""
    return Store(cache_root())


def accelerator(asked: str = "auto") -> AccelChoice:
    """Return the accelerator to use, for ``auto``, ``kvm`` or ``tcg``; KVM is probed once a boot.

    Raises HarnessError when the one asked for cannot run a guest.
    """
    return choose_accel(asked, Deadline.after(_PROBE_S))


def guests_at_a_time(choice: AccelChoice) -> int:
    """Return how many guests this machine can run at a time."""
    return default_guests(measure_host(), choice.accel)


def tests_at_a_time(choice: AccelChoice) -> int:
    """Return how many tests of the behaviour suite this machine can run at a time."""
    return default_tests(measure_host(), choice.accel)


def waiting_at_a_time(guests: int) -> int:
    """Return how many guests may wait on this machine beside so many that run."""
    return waiting_guests(measure_host(), guests)


def settings(
    accel: Accel,
    *,
    guests: int = 1,
    cpus: int = 2,
    memory_mib: int = MEMORY_MIB,
    fresh: Fresh = Fresh.SNAPSHOT,
    kernel_args: tuple[str, ...] = (),
) -> GuestSettings:
    """Return what all guests of a run have in common when so many of them run at a time."""
    return GuestSettings(
        accel=accel,
        time_scale=time_scale(accel, guests=guests, cores=measure_host().cores),
        cpus=cpus,
        memory_mib=memory_mib,
        fresh=fresh,
        kernel_args=kernel_args,
    )


def folder_for(name: str) -> Path:
    """Return where a run of this process keeps its files; it is not made yet.

    Nobody can know the name before, and so make the folder first.
    """
    unique = f"{os.getpid()}-{secrets.token_hex(4)}"
    return runs_root() / f"{time.strftime('%Y%m%d-%H%M%S')}-{name}-{unique}"


def make_folder(name: str) -> Path:
    """Make and return a folder that only this user can read; raises NoSpace, HarnessError."""
    folder = folder_for(name)
    with writing(folder):
        folder.mkdir(parents=True, mode=0o700)
    return folder


def sweep() -> None:
    """Remove what runs that were killed have left: keys, initrds, temporary files, old logs."""
    run_folder.sweep(runs_root())
    sweep_temporary()


@contextlib.contextmanager
def open_session(
    choice: AccelChoice,
    *,
    name: str,
    guests: int = 1,
    cpus: int = 2,
    memory_mib: int = MEMORY_MIB,
    fresh: Fresh = Fresh.SNAPSHOT,
    kernel_args: tuple[str, ...] = (),
    extra_files: Mapping[str, Path] = MappingProxyType({}),
    base: Path | None = None,
    keep: Callable[[], bool] = lambda: False,
    keeper: Keeper | None = None,
    root: RootDisk | None = None,
    plugins: PluginMaker = no_plugin,
    watch: GuestWatch | None = None,
) -> Iterator[Session]:
    """Open a run of so many guests at a time, in a folder of its own.

    ``extra_files`` are further files of its guests, by their paths there; ``base``, ``keeper``,
    ``root``, ``plugins`` and ``watch`` are as in `Session`. The folder is removed when all went
    well. After a failure, or when ``keep`` returns True at the end, the guests' logs stay, and
    nothing else.
    """
    sweep()
    folder = folder_for(name)
    with writing(folder.parent):
        folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not os.access(folder.parent, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    try:
        with Session(
            folder,
            settings(
                choice.accel,
                guests=guests,
                cpus=cpus,
                memory_mib=memory_mib,
                fresh=fresh,
                kernel_args=kernel_args,
            ),
            store(),
            extra_files=extra_files,
            base=base,
            keeper=keeper,
            root=root,
            plugins=plugins,
            watch=watch,
        ) as session:
            yield session
        if keep():
            keep_logs(folder)
        else:
            shutil.rmtree(folder, ignore_errors=True)
    except BaseException:
        try:
            keep_logs(folder)
        except KeyboardInterrupt:
            # The first signal is the last one that is not ignored.
            keep_logs(folder)
            raise
        raise


def keep_logs(folder: Path) -> None:
    """Remove all of a run's folder but the logs of its guests, and what dates them."""
    if not (folder / GUESTS).is_dir():
        shutil.rmtree(folder, ignore_errors=True)
        return
    for path in folder.iterdir():
        if path.name in (GUESTS, LOCK):
            continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
