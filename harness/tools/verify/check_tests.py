# SPDX-License-Identifier: GPL-2.0-only
"""The user's check as a pytest file: run on the host in a process of its own.

Its tests reach the guest by the fixtures of check_plugin.py.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING

import pytest

from harness.deadline import Deadline, wait_until
from harness.errors import CommandTimeout, HarnessError, LostConnection, UsageError
from harness.tools.verify.check_plugin import CheckReport, started_file
from harness.tools.verify.script import CheckRun, CheckScript, When
from harness.vm.guest.attached import address_of
from harness.vm.host.process import STDOUT, run, spawn
from harness.vm.host.temporary import temporary_folder

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from harness.vm.guest.machine import Machine

SUFFIX = ".py"
_PLUGIN = "harness.tools.verify.check_plugin"
# The plugin for tests that start guests of their own has fixtures of the same names.
_OTHER_PLUGINS = ("klp_harness", "harness.pytest_plugin")
_COLLECT_S = 60.0
# How long pytest may take to reach its first test, and to end after its last.
_HOST_S = 120.0
_ABORTED_S = 10.0
_LAST_LINES = 12
_STACK_LINES = 60
_WITHOUT_REAPING = os.WEXITED | os.WNOHANG | os.WNOWAIT
_ENDINGS = {
    int(pytest.ExitCode.NO_TESTS_COLLECTED): "it has no test",
    int(pytest.ExitCode.USAGE_ERROR): "pytest was started with wrong options",
    int(pytest.ExitCode.INTERRUPTED): "pytest was interrupted",
}
_HINT = f"a check that ends in {SUFFIX} is a pytest file: docs/verify.md has one"
_PASSED, _FAILED = pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED


class CheckTests:
    """A test file for one guest. Each run is a new pytest process."""

    def __init__(self, machine: Machine, path: Path, *, timeout_s: float) -> None:
        self._machine = machine
        self._path = path
        self._timeout_s = timeout_s
        self._runs = 0

    def run(self, when: When) -> CheckRun:
        """Run all its tests to their end.

        Raises UsageError when pytest ends without having run them, or a test uses what it may not;
        the reason when the guest ends, LostConnection when a test could not reach it though it
        lives, and HarnessError when pytest does not end after its tests.
        """
        self._runs += 1
        folder = self._machine.folder
        address = folder / "check-guest.json"
        if not address.exists():
            address_of(self._machine).write(address)
        report = folder / f"check-{self._runs}.json"
        log = folder / f"check-{self._runs}-{when}.log"
        options = (
            *(f"--klp-guest={address}", f"--klp-moment={when}", f"--klp-report={report}"),
            # Its own: else pytest removes old ones of others at its end, which may take minutes.
            f"--basetemp={folder / f'check-{self._runs}-tmp'}",
        )
        with (
            log.open("wb") as output,
            spawn(
                _command(self._path, *options), stdout=output, stderr=STDOUT, env=_environment()
            ) as child,
        ):
            in_time = self._wait(child.pid, report)
            lines = _tail(log)
            if not in_time:
                lines = (*self._stacks(child.pid, log), *lines)
        if not in_time and report.exists():
            raise HarnessError(
                f"the tests of {self._path.name} ended, and pytest did not", details=lines
            )
        if not in_time:
            return CheckRun(code=None, lines=lines)
        return self._result(child.returncode, report, log)

    @staticmethod
    def _stacks(pid: int, log: Path) -> tuple[str, ...]:
        """End pytest, and return where its threads were, which its plugin faulthandler prints."""
        written = log.stat().st_size
        os.kill(pid, signal.SIGABRT)
        wait_until(lambda: _has_ended(pid), Deadline.after(_ABORTED_S))
        said = log.read_bytes()[written:].decode(errors="replace").splitlines()
        return tuple(line for line in said if line.strip())[:_STACK_LINES]

    def _wait(self, pid: int, report: Path) -> bool:
        """Wait for pytest's end; False when it hangs. Only its tests have the check's timeout."""

        def ended() -> bool:
            return _has_ended(pid)

        def appears(file: Path, deadline: Deadline) -> bool:
            return self._machine.wait(lambda: ended() or file.exists(), deadline)

        return (
            appears(started_file(report), Deadline.after(_HOST_S))
            and appears(report, self._machine.scaled(self._timeout_s))
            and self._machine.wait(ended, Deadline.after(_HOST_S))
        )

    def _result(self, code: int, report: Path, log: Path) -> CheckRun:
        if code < 0:
            return CheckRun(code=code, lines=_tail(log))
        if code not in (_PASSED, _FAILED):
            raise _refused(self._path, code, _read(report), _tail(log))
        failures = _read(report).failures
        lost = [failure for failure in failures if failure.by_harness]
        if lost:
            # If the guest has died or hangs, that is the reason, and it is raised here.
            self._machine.check_splats()
            raise LostConnection(
                f"the check {self._path.name} did not reach the guest: {lost[0].text}",
                artefacts=self._machine.folder,
            )
        wrong = next((failure for failure in failures if failure.by_file), None)
        if wrong is not None:
            raise UsageError(
                f"the check {self._path.name} cannot be used: {wrong.test}: {wrong.text}",
                hint=wrong.hint or _HINT,
                details=_tail(log),
            )
        lines = tuple(f"{failure.test}: {failure.text}" for failure in failures)
        return CheckRun(code=code, lines=lines, ending="failed")


def _has_ended(pid: int) -> bool:
    # Reaping it is left to spawn(), which ends what it has left running in its group.
    return os.waitid(os.P_PID, pid, _WITHOUT_REAPING) is not None


def check_in(machine: Machine, path: Path, *, timeout_s: float) -> CheckScript | CheckTests:
    """Return the user's check for a guest: a script that runs there, or a test file."""
    kind = CheckTests if path.suffix == SUFFIX else CheckScript
    return kind(machine, path, timeout_s=timeout_s)


def collect(path: Path) -> None:
    """Have pytest collect a check, without a guest. Raises UsageError when it finds no test."""
    with temporary_folder("check") as folder:
        report = folder / "report.json"
        try:
            finished = run(
                _command(path, "--collect-only", f"--klp-report={report}"),
                deadline=Deadline.after(_COLLECT_S),
                env=_environment(),
                check=False,
            )
        except CommandTimeout as error:
            raise UsageError(
                f"the check {path.name} cannot be used: pytest had not read it after "
                f"{_COLLECT_S:.0f} s",
                hint="move what takes time into a test or a fixture",
            ) from error
        if finished.returncode != _PASSED:
            lines = (finished.stdout + finished.stderr).splitlines()[-_LAST_LINES:]
            raise _refused(path, finished.returncode, _read(report), lines)


def _refused(path: Path, code: int, report: CheckReport, lines: Sequence[str]) -> UsageError:
    why = _ENDINGS.get(code, f"pytest ended with exit code {code}")
    return UsageError(
        f"the check {path.name} cannot be used: {report.errors[0] if report.errors else why}",
        hint=_HINT,
        details=tuple(lines),
    )


def _command(path: Path, *options: str) -> list[str]:
    without = [word for name in _OTHER_PLUGINS for word in ("-p", f"no:{name}")]
    return [
        *(sys.executable, "-m", "pytest", *without, "-p", _PLUGIN, *options),
        # The addopts of the user's own suite are not meant for this.
        *("-o", "addopts=", "-p", "no:cacheprovider"),
        *("-q", "--tb=short", "--color=no", str(path.absolute())),
    ]


def _environment() -> dict[str, str]:
    """Return the environment without what a pytest around this process has put there."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    return {**kept, "LC_ALL": "C.UTF-8"}


def _read(report: Path) -> CheckReport:
    try:
        return CheckReport.model_validate_json(report.read_bytes())
    except FileNotFoundError:
        return CheckReport()
    except ValueError as error:
        raise HarnessError(f"the report of a check cannot be read: {error}") from error


def _tail(log: Path) -> tuple[str, ...]:
    lines = log.read_text(errors="replace").splitlines()
    return tuple(line for line in lines if line.strip())[-_LAST_LINES:]
