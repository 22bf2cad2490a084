# SPDX-License-Identifier: GPL-2.0-only
"""klp-harness doctor: what this machine can do, which accelerator and why, what it lacks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from harness.cli.exits import guarded
from harness.cli.invocation import Invocation
from harness.cli.options import Accel, AccelAsked, ResultFiles
from harness.deadline import Deadline
from harness.errors import ExitCode
from harness.report.base import CheckOutcome
from harness.tools.doctor.examine import Finding, Health, examine
from harness.tools.doctor.results import DoctorResult

if TYPE_CHECKING:
    from harness.report.terminal import Terminal
    from harness.tools.doctor.examine import DoctorReport

_PATIENCE_S = 120.0
_WORDS = {Health.PASSED: "ok", Health.WARNED: "note", Health.FAILED: "MISSING"}
_STYLES = {Health.PASSED: "green", Health.WARNED: "yellow", Health.FAILED: "bold red"}
_WORD_WIDTH = 8
_NAME_WIDTH = 24


@guarded
def doctor(
    files: ResultFiles,
    accel: Accel = AccelAsked.AUTO,
) -> int:
    """Tell what this machine can do for the harness, and what it lacks and how to get it.

    Exit code 3 when something is in the way of a run.
    """
    with Invocation("doctor", files) as invocation:
        invocation.terminal.note("looking at this machine; an accelerator is tried by running it")
        report = examine(Deadline.after(_PATIENCE_S), requested_accel=accel.value)
        invocation.accel = report.accel
        invocation.results += [_result(finding) for finding in report.findings]
        _print(invocation.terminal, report)
        if not report.healthy:
            invocation.exit_code = ExitCode.HARNESS
    return invocation.exit_code


def _print(terminal: Terminal, report: DoctorReport) -> None:
    terminal.print(
        f"klp-harness {report.harness} on {report.distribution.name}, kernel {report.kernel}"
    )
    for finding in report.findings:
        line = Text(f"{_WORDS[finding.outcome]:{_WORD_WIDTH}}", style=_STYLES[finding.outcome])
        line.append(f"{finding.id:{_NAME_WIDTH}} {finding.detail}", style="default")
        terminal.print(line)
        if finding.hint is not None:
            terminal.print(f"{'':{_WORD_WIDTH + _NAME_WIDTH}} {finding.hint}")
    terminal.print(f"cache: {report.cache} ({report.cache_mib} MiB)")
    if not report.healthy:
        terminal.print("something is in the way: see the lines marked MISSING")
    elif report.guests is not None and report.accel is not None:
        plural = "guest" if report.guests == 1 else "guests"
        terminal.print(
            f"ready: {report.guests} {plural} at a time with {report.accel.accel.value}; "
            "`klp-harness demo` shows a livepatch at work"
        )


def _result(finding: Finding) -> DoctorResult:
    return DoctorResult(
        id=finding.id,
        outcome=CheckOutcome(finding.outcome.value),
        seconds=finding.seconds,
        detail=finding.detail,
        hint=finding.hint,
    )
