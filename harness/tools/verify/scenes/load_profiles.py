# SPDX-License-Identifier: GPL-2.0-only
"""Loads: what else the guest does while a patch is loaded and unloaded."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import HarnessError, UsageError
from harness.tools.verify.request import LoadProfile

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.vm.guest.machine import Machine
    from harness.vm.guest.spawned import SpawnedProcess

_READY_S = 20.0
_SIGKILL = 9
_FORK_STORMS = 2
_HOGS = 2
_CALLERS = 2
CHURNED = ("klp_target_twins", "klp_target_notrace")

_HOG = "echo ready; while :; do :; done"
# Fills most of the free memory, and frees it: the kernel has to reclaim meanwhile.
_PRESSURE = """
echo ready
free=$(awk '/^MemAvailable:/ { print int($2 / 1024 * 7 / 10) }' /proc/meminfo)
while :; do
    dd if=/dev/zero of=/dev/shm/pressure bs=1M count=$free 2>/dev/null
    echo 1 >/proc/sys/vm/drop_caches
    rm -f /dev/shm/pressure
done
"""
# A program of the user's need not say that it has begun.
_USERS = 'chmod +x "$1" && echo ready && exec "$1"'
# Arguments: the module's file and its name.
_CHURN = """
echo ready
while :; do
    insmod "$1" 2>/dev/null
    rmmod "$2" 2>/dev/null
done
"""


class Load:
    """Programs that run in a guest until the load ends, with the profiles that are started.

    ``samples`` are modules by name, ``files`` are read all the time by the load of system calls,
    ``used`` are the names of modules that no load may unload.
    """

    def __init__(
        self,
        machine: Machine,
        *,
        samples: Mapping[str, Path],
        files: Sequence[str],
        used: Sequence[str],
    ) -> None:
        self._machine = machine
        self._samples = samples
        self._files = files
        self._used = used
        self._users = False
        self._running: list[tuple[str, SpawnedProcess]] = []

    def start(self, profile: LoadProfile | Path) -> None:
        """Start the programs of a profile, or the user's; raises TimeoutError when it does not."""
        programs: list[tuple[str, ...]]
        match profile:
            case LoadProfile.FORKS:
                programs = [("klp-storm",)] * _FORK_STORMS
            case LoadProfile.SYSCALLS:
                programs = [("klp-calls", *self._files)] * _CALLERS
            case LoadProfile.CPU:
                programs = [_shell(_HOG)] * _HOGS
            case LoadProfile.MEMORY:
                programs = [_shell(_PRESSURE)]
            case LoadProfile.MODULES:
                name = next(each for each in CHURNED if each not in self._used)
                programs = [_shell(_CHURN, self._machine.upload(self._samples[name]), name)]
            case Path():
                programs = [_shell(_USERS, self._machine.upload(profile))]
        for program, *words in programs:
            process = self._machine.spawn(program, *words)
            # Each prints a line when it has begun.
            process.next_line(self._machine.scaled(_READY_S))
            self._running.append((label(profile), process))
            self._users = self._users or isinstance(profile, Path)

    def check(self) -> None:
        """Raise when a program has ended: the load was less than the result claims.

        Raises UsageError for the user's own, which has to run until it is killed, and HarnessError.
        """
        for name, process in self._running:
            ended = process.output.exit
            if ended is None:
                continue
            how = f"code {ended.code}" if ended.code is not None else f"signal {ended.signal}"
            lines = tuple(process.output.stderr[-5:])
            if self._users:
                raise UsageError(
                    f"the load {name} has ended, with {how}",
                    hint="a load runs until it is killed",
                    details=lines,
                )
            raise HarnessError(f"the load {name} has ended, with {how}", details=lines)

    def stop(self) -> None:
        """Kill all of it."""
        for _, process in self._running:
            with contextlib.suppress(OSError):
                self._machine.request("signal", f"-{process.pid}", str(_SIGKILL))
        self._running.clear()


def label(profile: LoadProfile | Path) -> str:
    """Return the name of a load in checks and scenes."""
    return profile.name if isinstance(profile, Path) else profile.value


def _shell(script: str, *words: str) -> tuple[str, ...]:
    return ("sh", "-c", script, "load", *words)
