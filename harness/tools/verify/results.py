# SPDX-License-Identifier: GPL-2.0-only
"""Results of ``klp-harness verify``: one for each check of each module."""

from __future__ import annotations

from typing import Literal

from harness.report.base import BaseReport, Model, ResultBase
from harness.report.run_results import RunResult


class VerifyResult(ResultBase):
    """A check of one module. ``id`` is the check, ``module`` the patch that it was made of.

    ``outcome`` is passed, warned, failed or not-run; ``code`` says for machines what was found,
    ``detail`` for people, ``advice`` what to do about it. ``lines`` are worth reading in full: a
    trace, stacks, names. ``evidence`` are files and folders with what the guest said.
    """

    module: str
    code: str
    detail: str
    advice: str | None = None
    lines: tuple[str, ...] = ()
    evidence: tuple[str, ...] = ()

    def words(self) -> tuple[str, str]:
        """Return the detail, and it with the code, the advice, the lines and the evidence."""
        more = (f"[{self.code}]", self.advice or "", *self.lines, *self.evidence)
        return self.detail, "\n".join((self.detail, *filter(None, more)))


class VerdictFacts(Model):
    """What one module came to: the worst of its checks. ``codes`` are those of what failed."""

    module: str
    outcome: str
    path: str
    codes: tuple[str, ...] = ()
    seconds: float = 0.0


class VerifyReport(BaseReport):
    """``klp-harness verify``: one result for each check of each module.

    ``verdicts`` has what each module came to, ``runs`` the timelines that were recorded.
    """

    command: Literal["verify"] = "verify"
    results: tuple[VerifyResult, ...] = ()
    verdicts: tuple[VerdictFacts, ...] = ()
    runs: tuple[RunResult, ...] = ()
