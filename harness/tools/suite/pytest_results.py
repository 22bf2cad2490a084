# SPDX-License-Identifier: GPL-2.0-only
"""Listens to pytest: the outcome of each test, and whose fault a failure is."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from harness.errors import ExitCode
from harness.report.base import CheckOutcome
from harness.report.properties import FAULT, KERNEL, KERNEL_DIGEST, RULE
from harness.report.suite_results import TestResult

if TYPE_CHECKING:
    from collections.abc import Sequence

_CRASHED = "???"


@dataclass
class _Test:
    outcome: CheckOutcome = CheckOutcome.PASSED
    called: bool = False
    seconds: float = 0.0
    detail: str | None = None
    fault: int | None = None
    properties: list[tuple[str, Any]] = field(default_factory=list)


class Interruptions:
    """A pytest plugin object that keeps what ended a run: Ctrl-C, or SIGTERM."""

    interrupt: KeyboardInterrupt | None = None

    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        """Take Ctrl-C, which pytest does not pass on; it ends its own runs in the same way."""
        ended = excinfo.value
        if isinstance(ended, KeyboardInterrupt) and not isinstance(
            ended, pytest.Session.Interrupted
        ):
            self.interrupt = ended


class CollectedTests(Interruptions):
    """A pytest plugin object that counts the tests that are left when all have been collected."""

    tests = 0

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Take their number."""
        self.tests = len(session.items)


class Collector(Interruptions):
    """A pytest plugin object for one run."""

    def __init__(self) -> None:
        self._tests: dict[str, _Test] = {}
        self._collection_errors: dict[str, str] = {}

    # -- pytest's hooks

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take a phase of a test."""
        test = self._tests.setdefault(report.nodeid, _Test())
        test.seconds += report.duration
        test.called = test.called or report.when == "call"
        test.properties += [p for p in report.user_properties if p not in test.properties]
        outcome = _outcome(report)
        if outcome is not CheckOutcome.PASSED and test.outcome not in _WORST:
            test.outcome = outcome
            test.detail = _detail(report)
            test.fault = _fault(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Take a test file that cannot be read."""
        if report.failed:
            self._collection_errors[report.nodeid] = report.longreprtext

    # -- the results

    def results(self) -> Sequence[TestResult]:
        """Return the results, in the order in which the tests ended."""
        tests = [
            TestResult(
                id=nodeid,
                outcome=test.outcome,
                seconds=test.seconds,
                rules=tuple(sorted(set(RULE.values(test.properties)))),
                kernel=KERNEL.last(test.properties),
                kernel_digest=KERNEL_DIGEST.last(test.properties),
                detail=test.detail,
            )
            for nodeid, test in self._tests.items()
            # One that was interrupted after its setup has not passed.
            if test.called or test.outcome is not CheckOutcome.PASSED
        ]
        tests += [
            TestResult(id=nodeid, outcome=CheckOutcome.ERROR, seconds=0.0, detail=text)
            for nodeid, text in self._collection_errors.items()
        ]
        return tests

    def exit_code(self, status: int) -> ExitCode:
        """Return the exit code of the run, from the results and pytest's own.

        A verdict on the kernel counts before a failure of the harness: it holds all the same.
        """
        outcomes = {result.outcome for result in self.results()}
        if CheckOutcome.FAILED in outcomes:
            return ExitCode.VERDICT
        if CheckOutcome.ERROR in outcomes:
            faults = {
                test.fault for test in self._tests.values() if test.outcome is CheckOutcome.ERROR
            }
            only_usage = faults == {ExitCode.USAGE} and not self._collection_errors
            return ExitCode.USAGE if only_usage else ExitCode.HARNESS
        match status:
            case pytest.ExitCode.OK:
                return ExitCode.HELD
            case pytest.ExitCode.USAGE_ERROR | pytest.ExitCode.NO_TESTS_COLLECTED:
                return ExitCode.USAGE
            case _:
                return ExitCode.HARNESS


# The first line under pytest-xdist: it names the worker.
_WORKER = re.compile(r"\A\[gw\d+\] .*\n\s*")
_WORST = (CheckOutcome.FAILED, CheckOutcome.ERROR)


def _outcome(report: pytest.TestReport) -> CheckOutcome:
    if report.passed:
        return CheckOutcome.PASSED
    if report.skipped:
        expected = hasattr(report, "wasxfail")
        return CheckOutcome.EXPECTED_FAILURE if expected else CheckOutcome.SKIPPED
    if report.when == _CRASHED:
        return CheckOutcome.ERROR
    return CheckOutcome.FAILED if _fault(report) == ExitCode.VERDICT else CheckOutcome.ERROR


def _fault(report: pytest.TestReport) -> int:
    """Return whose fault a failure is, as an exit code; a failed assertion is a verdict."""
    return FAULT.last(report.user_properties) or ExitCode.VERDICT


def _detail(report: pytest.TestReport) -> str:
    if report.skipped and hasattr(report, "wasxfail"):
        return str(report.wasxfail)
    if isinstance(report.longrepr, tuple):
        return str(report.longrepr[2])
    return _WORKER.sub("", report.longreprtext, count=1)
