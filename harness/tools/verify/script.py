# SPDX-License-Identifier: GPL-2.0-only
"""The user's check script in a guest: run before the patch is loaded, with it, and after it."""

from __future__ import annotations

import contextlib
import errno
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from harness.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from harness.vm.guest.machine import Machine
    from harness.vm.guest.spawned import SpawnedProcess

_SIGKILL = 9
_LAST_LINES = 6


class When(StrEnum):
    """The argument of the script: before the patch, while it is enabled, after it."""

    BEFORE = "before"
    DURING = "during"
    AFTER = "after"


@dataclass(frozen=True, kw_only=True)
class CheckRun:
    """How one run of the check ended. ``code`` is negative after a signal, None when it hung.

    ``ending`` says in words how it ended, where its exit code does not.
    """

    code: int | None
    lines: tuple[str, ...] = ()
    ending: str = ""

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
        lines = (*process.output.stdout, *process.output.stderr)
        return CheckRun(code=code, lines=tuple(lines)[-_LAST_LINES:])

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
