# SPDX-License-Identifier: GPL-2.0-only
"""The user's check script in a guest: before the patch, with it, after it."""

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
    """The argument of the script: where in the patch's life the kernel is."""

    BEFORE = "before"
    DURING = "during"
    AFTER = "after"


@dataclass(frozen=True, kw_only=True)
class Said:
    """What the check came to. ``code`` is negative after a signal, None when it hangs.

    ``how`` says in words how it ended, where its exit code does not.
    """

    code: int | None
    lines: tuple[str, ...] = ()
    how: str = ""

    @property
    def ok(self) -> bool:
        """Whether it ended with 0."""
        return self.code == 0

    def describe(self, timeout_s: float) -> str:
        """Return in words how it ended, with its last line."""
        if self.code is None:
            how = f"did not end within {timeout_s:.0f} s"
        elif self.code < 0:
            how = f"was killed by signal {-self.code}"
        else:
            how = self.how or f"ended with exit code {self.code}"
        return f"{how}: {self.lines[-1]}" if self.lines else how


class CheckScript:
    """A script in one guest."""

    def __init__(self, machine: Machine, path: Path, *, timeout_s: float) -> None:
        self._machine = machine
        self._path = path
        self._timeout_s = timeout_s
        self._there: str | None = None

    def run(self, when: When) -> Said:
        """Run it to its end. Raises UsageError when the guest cannot execute it."""
        process = self.start(when)
        deadline = self._machine.scaled(self._timeout_s)
        try:
            code: int | None = process.wait(deadline)
        except TimeoutError:
            code = None
            with contextlib.suppress(OSError):
                self._machine.request("signal", f"-{process.pid}", str(_SIGKILL))
        output = process.output
        lines = (*output.stdout, *output.stderr)
        return Said(code=code, lines=tuple(lines)[-_LAST_LINES:])

    def start(self, when: When) -> SpawnedProcess:
        """Start it. Raises UsageError when the guest cannot execute it."""
        there = self.upload()
        try:
            return self._machine.spawn(there, when.value)
        except OSError as error:
            if error.errno == errno.ENOEXEC:
                return self._machine.spawn("sh", there, when.value)
            raise UsageError(
                f"the guest cannot run {self._path.name}: {error.strerror}",
                hint="it has sh, bash and busybox, and runs static programs",
            ) from error

    def upload(self) -> str:
        """Copy it into the guest, executable; return its path there."""
        if self._there is None:
            there = self._machine.upload(self._path)
            self._machine.run(["chmod", "755", there])
            self._there = there
        return self._there


def expect_before(said: Said, path: Path, *, timeout_s: float) -> None:
    """Raise UsageError when the script does not hold before the patch is loaded.

    Then it says nothing about the patch.
    """
    if not said.ok:
        what = "hangs" if said.code is None else "fails"
        raise UsageError(
            f"the check {path.name} {what} before the patch is loaded: {said.describe(timeout_s)}",
            hint="called with the argument before, it has to end with 0 on the unpatched kernel; "
            "a test file has to pass there",
            details=said.lines,
        )
