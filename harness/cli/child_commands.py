# SPDX-License-Identifier: GPL-2.0-only
"""Commands of the harness as child processes: one builds while others run guests.

A child is this package's own command line with ``--json``. So a kernel that kills a test run kills
a child, every run is what a user can type, and when this process dies its children die with it.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import sys
import time
from collections import deque
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from pydantic import ValidationError

from harness.cli.registry import read_report
from harness.errors import HarnessError
from harness.vm.host.process import STDOUT, spawn

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Mapping
    from pathlib import Path
    from typing import TypeVar

    from harness.deadline import Deadline
    from harness.report.base import BaseReport

    T = TypeVar("T")


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
    """What a command came to. ``report``: None when it wrote none; ``log``: what it printed."""

    code: int
    report: BaseReport | None
    seconds: float
    log: Path


def run_all(
    tasks: Iterable[Generator[Command, Done, T]],
    folder: Path,
    *,
    runs: int,
    deadline: Deadline,
    environment: Mapping[str, str],
) -> Iterator[T]:
    """Drive tasks that yield commands and get what they came to; yield what each task returns.

    One build and ``runs`` runs go on at a time, each kind in the order in which it was asked for:
    while one kernel is tested, the next is built. Leaving the loop early ends the children. Raises
    HarnessError when the deadline comes first.
    """
    most = {Lane.BUILD: 1, Lane.RUN: runs}
    waiting: dict[Lane, deque[tuple[Command, Generator[Command, Done, T]]]] = {
        lane: deque() for lane in Lane
    }
    running: dict[_Child, Generator[Command, Done, T]] = {}
    with contextlib.ExitStack() as children, selectors.DefaultSelector() as selector:
        for task in tasks:
            command = next(task)
            waiting[command.lane].append((command, task))
        while running or any(waiting.values()):
            for lane in Lane:
                busy = sum(child.lane is lane for child in running)
                for _ in range(min(most[lane] - busy, len(waiting[lane]))):
                    command, task = waiting[lane].popleft()
                    child = children.enter_context(_Child(command, folder, environment))
                    selector.register(child.ended, selectors.EVENT_READ, child)
                    running[child] = task
            for key, _ in selector.select(deadline.remaining_s):
                child = key.data
                task = running.pop(child)
                selector.unregister(child.ended)
                try:
                    following = task.send(child.finish())
                except StopIteration as stop:
                    yield stop.value
                else:
                    waiting[following.lane].append((following, task))
            if deadline.expired:
                raise HarnessError("the time for these runs is up")


class _Child(contextlib.AbstractContextManager["_Child"]):
    def __init__(self, command: Command, folder: Path, environment: Mapping[str, str]) -> None:
        self.lane = command.lane
        self._report = folder / f"{command.name}.json"
        self._log = folder / f"{command.name}.log"
        self._report.unlink(missing_ok=True)
        self._start_s = time.monotonic()
        self._stack = contextlib.ExitStack()
        with contextlib.ExitStack() as stack:
            output = stack.enter_context(self._log.open("wb"))
            argv = [sys.executable, "-m", "harness.cli", *command.arguments]
            if command.reports:
                argv += ["--json", str(self._report)]
            self._process = self._stack.enter_context(
                spawn(argv, stdout=output, stderr=STDOUT, env=environment)
            )
        self.ended = os.pidfd_open(self._process.pid)

    def __exit__(self, *exc: object) -> None:
        self._stack.close()
        if self.ended >= 0:
            os.close(self.ended)
            self.ended = -1

    def finish(self) -> Done:
        """Return what the command came to; it has ended."""
        code = self._process.wait()
        self.__exit__()
        try:
            report = read_report(self._report.read_text(encoding="utf-8"))
        except (OSError, ValidationError, KeyError):
            report = None
        return Done(
            code=code, report=report, seconds=time.monotonic() - self._start_s, log=self._log
        )
