# SPDX-License-Identifier: GPL-2.0-only
"""What `klp-harness verify` hands over: results, verdicts, timelines, and the page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.cli.invocation import write_file
from harness.report.base import CheckOutcome
from harness.tools.verify import Check, CheckResult, Verdict
from harness.tools.verify.page import verify_page
from harness.tools.verify.results import VerdictFacts, VerifyResult

if TYPE_CHECKING:
    from pathlib import Path

    from harness.cli.invocation import Invocation
    from harness.report.run_results import RunResult


class VerdictPage:
    """What the report has beside the results, and the HTML page, which grows with each module."""

    def __init__(self, invocation: Invocation, accelerator: str, path: Path | None) -> None:
        self.verdicts: list[VerdictFacts] = []
        self.runs: list[RunResult] = []
        self._invocation = invocation
        self._accelerator = accelerator
        self._path = path
        invocation.more |= {"verdicts": self.verdicts, "runs": self.runs}

    @property
    def keep(self) -> bool:
        """Whether a guest's logs are worth keeping."""
        return any(facts.outcome != CheckResult.PASSED for facts in self.verdicts)

    def write(self) -> None:
        """Write the page as far as it is known; raises UsageError."""
        if self._path is None:
            return
        results = [each for each in self._invocation.results if isinstance(each, VerifyResult)]
        kernels = "; ".join(kernel.describe() for kernel in self._invocation.kernels)
        text = verify_page(
            self.verdicts, results, self.runs, kernel=kernels, accelerator=self._accelerator
        )
        write_file(self._path, text)


def results_of(verdict: Verdict) -> list[VerifyResult]:
    """Return a verdict's checks as reports show them."""
    return [
        VerifyResult(
            id=check.id,
            outcome=CheckOutcome(check.outcome.value),
            seconds=check.seconds,
            module=verdict.module,
            code=check.code.value,
            detail=check.detail,
            advice=check.advice,
            lines=check.lines,
            evidence=tuple(str(path) for path in check.evidence),
        )
        for check in verdict.checks
    ]


def facts_of(verdict: Verdict, path: Path) -> VerdictFacts:
    """Return what a module came to as reports show it."""
    return VerdictFacts(
        module=verdict.module,
        outcome=verdict.outcome.value,
        path=str(path),
        codes=tuple(sorted(verdict.codes)),
        seconds=verdict.seconds,
    )


def line_of(check: Check) -> str:
    """Return a check in a line, for whoever watches."""
    said = check.outcome.value
    return f"{check.id}: {said}" + (
        f" [{check.code}] {check.detail}" if check.outcome is CheckResult.FAILED else ""
    )
