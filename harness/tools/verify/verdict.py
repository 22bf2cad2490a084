# SPDX-License-Identifier: GPL-2.0-only
"""The checks of a livepatch, each with an outcome and a code, and the verdict they make. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.report.base import CheckOutcome
from harness.vm.kernel.codes import Code

if TYPE_CHECKING:
    from pathlib import Path

    from harness.report.run_results import RunResult
    from harness.tools.verify.executed import Execution


@dataclass(frozen=True, kw_only=True)
class Check:
    """One check, which is passed, warned, failed, or not-run for the reason in its detail.

    ``detail`` is what was found, ``advice`` what to do about it, ``lines`` what is worth reading in
    full. ``seconds`` is host time. ``evidence`` are files and folders with the guest's logs.
    """

    id: str
    outcome: CheckOutcome
    code: Code = Code.OK
    detail: str = ""
    advice: str | None = None
    lines: tuple[str, ...] = ()
    seconds: float = 0.0
    evidence: tuple[Path, ...] = ()


def passed(name: str, detail: str = "") -> Check:
    """Return a check that passed."""
    return Check(id=name, outcome=CheckOutcome.PASSED, detail=detail)


def warned(
    name: str, code: Code, detail: str, advice: str | None = None, lines: tuple[str, ...] = ()
) -> Check:
    """Return a check that found something to know before the patch is shipped."""
    return Check(
        id=name, outcome=CheckOutcome.WARNED, code=code, detail=detail, advice=advice, lines=lines
    )


def failed(
    name: str, code: Code, detail: str, advice: str | None = None, lines: tuple[str, ...] = ()
) -> Check:
    """Return a check that failed."""
    return Check(
        id=name, outcome=CheckOutcome.FAILED, code=code, detail=detail, advice=advice, lines=lines
    )


def not_run(name: str, why: str) -> Check:
    """Return a check that was not run, with the reason."""
    return Check(id=name, outcome=CheckOutcome.NOT_RUN, code=Code.NOT_RUN, detail=why)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """All checks of one module.

    ``runs`` are the recorded timelines, ``executed`` how often old and new bodies ran.
    """

    module: str
    checks: tuple[Check, ...]
    runs: tuple[RunResult, ...] = ()
    executed: tuple[Execution, ...] = ()
    seconds: float = 0.0

    @property
    def outcome(self) -> CheckOutcome:
        """The worst of all checks: passed, warned or failed. What was not run does not count."""
        seen = {check.outcome for check in self.checks}
        worst_first = (CheckOutcome.FAILED, CheckOutcome.WARNED)
        return next((each for each in worst_first if each in seen), CheckOutcome.PASSED)

    @property
    def failed(self) -> tuple[Check, ...]:
        """The checks that failed."""
        return tuple(check for check in self.checks if check.outcome is CheckOutcome.FAILED)

    @property
    def codes(self) -> frozenset[Code]:
        """The codes of the checks that failed."""
        return frozenset(check.code for check in self.failed)

    def check(self, name: str) -> Check:
        """Return the check of that id; raises KeyError."""
        for check in self.checks:
            if check.id == name:
                return check
        raise KeyError(name)
