# SPDX-License-Identifier: GPL-2.0-only
"""Results of ``klp-harness verify``: one for each check of each module."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Literal

from harness.report.base import (
    BaseReport,
    CheckOutcome,
    ErrorFacts,
    KernelFacts,
    Model,
    ResultBase,
)
from harness.report.run_results import RunResult

if TYPE_CHECKING:
    from pathlib import Path

    from harness.tools.verify.verdict import Verdict

FINDINGS = (CheckOutcome.FAILED, CheckOutcome.WARNED)
"""The outcomes of checks that are shown in full."""


class VerifyResult(ResultBase):
    """A check of one module. ``id`` is the check, ``module`` the patch that it was made of.

    ``outcome`` is passed, warned, failed or not-run; ``code`` says for machines what was found,
    ``detail`` for people, ``advice`` what to do about it. ``lines`` are worth reading in full: a
    trace, stacks, names. ``evidence`` are files and folders with the guest's logs.
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


class ExecutedFacts(Model):
    """How often the bodies of a patched function ran during something in a scene.

    ``during`` is check-before, check-during or check-after (the user's check), ``load`` or
    ``calls``. ``old`` and ``new``: None where it was not counted, or is not known. ``exact``: else
    it is a share of what the tracer saw.
    """

    function: str
    scene: str
    during: str
    old: int | None = None
    new: int | None = None
    exact: bool = True


class VerdictFacts(Model):
    """The verdict on one module: the worst of its checks. ``codes`` are those that failed.

    ``executed`` says how often old and new bodies ran.
    """

    module: str
    outcome: str
    path: str
    codes: tuple[str, ...] = ()
    seconds: float = 0.0
    executed: tuple[ExecutedFacts, ...] = ()


class VerifyReport(BaseReport):
    """``klp-harness verify``: one result for each check of each module.

    ``verdicts`` has the verdict on each module, ``runs`` the timelines that were recorded.
    """

    command: Literal["verify"] = "verify"
    results: tuple[VerifyResult, ...] = ()
    verdicts: tuple[VerdictFacts, ...] = ()
    runs: tuple[RunResult, ...] = ()


class CellResult(ResultBase):
    """A patch on a kernel. ``id`` is PATCH@KERNEL, ``row`` the patch, ``column`` the kernel's name.

    ``outcome`` is the worst of its verdicts: passed, warned or failed; failed also when the module
    or the kernel does not build. ``error`` is what kept it from being judged; ``outcome`` is then
    error, and ``error.fault`` says whose fault that is. not-run: the patch has no file for this
    kernel. ``at`` is when it ended, ISO 8601. ``kernel`` is None when it could not be had.
    """

    row: str
    column: str
    at: str
    kernel: KernelFacts | None = None
    accelerator: str | None = None
    cpus: int | None = None
    codes: tuple[str, ...] = ()
    detail: str = ""
    error: ErrorFacts | None = None
    verdicts: tuple[VerdictFacts, ...] = ()
    checks: tuple[VerifyResult, ...] = ()
    runs: tuple[RunResult, ...] = ()

    def words(self) -> tuple[str, str]:
        """Return the detail, and it with each finding in full."""
        found = [check for check in self.checks if check.outcome in FINDINGS]
        lines = [f"{check.id} {check.outcome.value}: {check.words()[1]}" for check in found]
        if self.error is not None:
            lines += [*self.error.details, *filter(None, (self.error.hint,))]
        return self.detail, "\n".join((self.detail, *lines))


class VerifyMatrixReport(BaseReport):
    """``klp-harness verify`` of several kernels or of a manifest: one result for each cell.

    ``folder`` is where each cell was kept; ``kept`` are the cells that were not run again, as an
    earlier run of the same job had their results.
    """

    command: Literal["verify matrix"] = "verify matrix"
    results: tuple[CellResult, ...] = ()
    rows: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    folder: str | None = None
    kept: tuple[str, ...] = ()


def results_of(verdict: Verdict) -> list[VerifyResult]:
    """Return a verdict's checks as results."""
    return [
        VerifyResult(
            id=check.id,
            outcome=check.outcome,
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
    """Return what reports say of a verdict beside its checks; ``path`` is the module's file."""
    return VerdictFacts(
        module=verdict.module,
        outcome=verdict.outcome.value,
        path=str(path),
        codes=tuple(sorted(verdict.codes)),
        seconds=verdict.seconds,
        executed=tuple(ExecutedFacts.model_validate(asdict(each)) for each in verdict.executed),
    )
