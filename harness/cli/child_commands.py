# SPDX-License-Identifier: GPL-2.0-only
"""Commands of the harness as child processes: one builds while others run guests.

A child is this package's own command line with ``--json``. So a kernel that kills a test run kills
a child, a user can type every run, and when this process dies its children die with it.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from harness.cli import pins
from harness.cli.registry import read_report
from harness.deadline import wait_until
from harness.errors import HarnessError
from harness.vm.host.process import STDOUT, child_environment, spawn

if TYPE_CHECKING:
    from pathlib import Path

    from harness.deadline import Deadline
    from harness.report.base import BaseReport

_LOOK_S = 0.1
_LAST_LINES = 5


class Lane(StrEnum):
    """What a command mostly needs: the CPUs, or guests, which mostly wait."""

    BUILD = "build"
    RUN = "run"


@dataclass(frozen=True, kw_only=True)
class Command:
    """A command of the harness. ``name`` is for its files; ``reports``: it takes ``--json``."""

    lane: Lane
    name: str
    arguments: tuple[str, ...]
    reports: bool = True


@dataclass(frozen=True, kw_only=True)
class Done:
    """How a command ended. ``report``: None when it wrote none; ``log``: what it printed."""

    code: int
    report: BaseReport | None
    seconds: float
    log: Path

    def last_lines(self) -> str:
        """Return the end of what it printed."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-_LAST_LINES:])


RunCommand = Callable[[Command], Done]


class ChildCommands(contextlib.AbstractContextManager["ChildCommands"]):
    """Runs commands as children of this process; several threads may use it at once.

    One build and ``runs`` runs go on at a time: while one kernel is tested, the next is built. The
    files of the commands are in ``folder``. Leaving the context ends the children that still run.
    They use the kernels that this command is pinned to, or those that ``pinned`` names for them.
    """

    def __init__(
        self,
        folder: Path,
        *,
        runs: int,
        deadline: Deadline,
        pinned: Mapping[str, str] | None = None,
    ) -> None:
        self._folder = folder
        self._more = pins.environment() if pinned is None else pinned
        self._deadline = deadline
        self._at_a_time = {Lane.BUILD: 1, Lane.RUN: runs}
        self._lanes = {lane: threading.Semaphore(n) for lane, n in self._at_a_time.items()}
        self._stopped = threading.Event()

    def __exit__(self, *exc: object) -> None:
        self._stopped.set()
        # A child holds its place until it is reaped.
        for lane, count in self._at_a_time.items():
            for _ in range(count):
                self._lanes[lane].acquire()

    def run(self, command: Command) -> Done:
        """Run a command when its lane has a place for it, and wait for its end.

        Raises HarnessError when the deadline comes first, or the context is left meanwhile.
        """
        report = self._folder / f"{command.name}.json"
        log = self._folder / f"{command.name}.log"
        argv = [sys.executable, "-m", "harness.cli", *command.arguments]
        if command.reports:
            argv += ["--json", str(report)]
        with self._lanes[command.lane]:
            if self._stopped.is_set() or self._deadline.expired:
                raise HarnessError(f"{command.name} was not started: the run is over")
            report.unlink(missing_ok=True)
            start_s = time.monotonic()
            environment = {**child_environment(), **self._more}
            with (
                log.open("wb") as output,
                spawn(argv, stdout=output, stderr=STDOUT, env=environment) as process,
            ):
                wait_until(
                    lambda: self._stopped.is_set() or process.poll() is not None,
                    self._deadline,
                    interval_s=_LOOK_S,
                )
                code = process.returncode
            if code is None:
                raise HarnessError(f"{command.name} was ended: the time for these runs is up")
        return Done(code=code, report=_read(report), seconds=time.monotonic() - start_s, log=log)


def _read(path: Path) -> BaseReport | None:
    try:
        return read_report(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, KeyError):
        return None
