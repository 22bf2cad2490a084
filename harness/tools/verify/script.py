# SPDX-License-Identifier: GPL-2.0-only
"""The user's check script in a guest: run before the patch is loaded, with it, and after it."""

from __future__ import annotations

import contextlib
import errno
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from harness.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from harness.vm.guest.machine import Machine
    from harness.vm.guest.spawned import SpawnedProcess

_SIGKILL = 9
_LAST_LINES = 6
_KILLED_S = 5.0
# "/proc/12/fd:", then "l-wx------ 1 root root 64 Nov 28 07:00 1 -> pipe:[345]" for its writer.
_OPEN_FILES = "ls -l /proc/[0-9]*/fd 2>/dev/null; true"
_OWNER = re.compile(r"/proc/(\d+)/fd:\Z")
_WRITER = re.compile(r"l.wx\S* .* -> pipe:\[(\d+)\]\Z")


class When(StrEnum):
    """The argument of the script: before the patch, while it is enabled, after it."""

    BEFORE = "before"
    DURING = "during"
    AFTER = "after"


@dataclass(frozen=True, kw_only=True)
class CheckRun:
    """How one run of the check ended. ``code`` is negative after a signal, None when it hung.

    ``ending`` says in words how it ended, where its exit code does not. ``left`` are the processes
    that it left behind with its output open; they have been killed.
    """

    code: int | None
    lines: tuple[str, ...] = ()
    ending: str = ""
    left: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether it ended with 0."""
        return self.code == 0

    def describe(self, timeout_s: float) -> str:
        """Return in words how it ended, with its last line."""
        if self.code is None:
            ending = f"did not end within {timeout_s:.0f} s"
        elif self.code < 0:
            ending = f"was killed by signal {-self.code}"
        else:
            ending = self.ending or f"ended with exit code {self.code}"
        return f"{ending}: {self.lines[-1]}" if self.lines else ending


class CheckScript:
    """A script in one guest."""

    def __init__(self, machine: Machine, path: Path, *, timeout_s: float) -> None:
        self._machine = machine
        self._path = path
        self._timeout_s = timeout_s
        self._uploaded: str | None = None

    def run(self, when: When) -> CheckRun:
        """Run it to its end. Raises UsageError when the guest cannot execute it."""
        process = self._start(when)
        try:
            code: int | None = process.wait(self._machine.scaled(self._timeout_s))
        except TimeoutError:
            code = None
            with contextlib.suppress(OSError):
                self._machine.request("signal", f"-{process.pid}", str(_SIGKILL))
        left = self._end_those_left(process)
        lines = (*process.output.stdout, *process.output.stderr)
        return CheckRun(code=code, lines=tuple(lines)[-_LAST_LINES:], left=left)

    def _end_those_left(self, process: SpawnedProcess) -> tuple[str, ...]:
        """Kill what has the script's output open though the script has ended; return their names.

        It would write into the next run, and hold a transition that is nothing of the patch's.
        """
        ended = process.output.ended
        if ended is None:
            return ()
        pipes = {ended.stdout, ended.stderr} - {None}
        listed = self._machine.run(["sh", "-c", _OPEN_FILES]).stdout
        pids = writers_of(listed, pipes)
        names = {task.tid: task.comm for task in self._machine.tasks().tasks}
        for pid in pids:
            with contextlib.suppress(OSError):
                self._machine.request("signal", str(pid), str(_SIGKILL))
        # Its lines are complete once nobody has it open.
        self._machine.wait(lambda: process.output.exit is not None, self._machine.scaled(_KILLED_S))
        return tuple(f"{names.get(pid, 'a process')} ({pid})" for pid in pids)

    def _start(self, when: When) -> SpawnedProcess:
        if self._uploaded is None:
            self._uploaded = self._machine.upload(self._path)
            self._machine.run(["chmod", "755", self._uploaded])
        try:
            return self._machine.spawn(self._uploaded, when.value)
        except OSError as error:
            if error.errno == errno.ENOEXEC:
                return self._machine.spawn("sh", self._uploaded, when.value)
            raise UsageError(
                f"the guest cannot run {self._path.name}: {error.strerror}",
                hint="it has sh, bash and busybox, and runs static programs",
            ) from error


def writers_of(listed: str, pipes: Collection[int | None]) -> tuple[int, ...]:
    """Return the processes that can write to one of these pipes, by ``ls -l /proc/PID/fd``."""
    found: dict[int, None] = {}
    pid = 0
    for line in listed.splitlines():
        if owner := _OWNER.match(line):
            pid = int(owner[1])
        elif (writer := _WRITER.match(line)) and int(writer[1]) in pipes:
            found[pid] = None
    return tuple(found)
