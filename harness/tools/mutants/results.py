# SPDX-License-Identifier: GPL-2.0-only
"""Results of ``klp-harness mutants``: one for each kernel mutant."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from harness.report.base import BaseReport, CheckOutcome, Model, ResultBase
from harness.tools.mutants.sweep.results import SweepReport as SweepReport


class Catch(Model):
    """A test that failed on a mutant; ``expected``: it carries a rule that the mutant breaks."""

    test: str
    rules: tuple[str, ...]
    seconds: float
    reason: str
    expected: bool


class UpstreamResult(Model):
    """The outcome of the kernel's own selftests on a mutant.

    ``outcome`` is caught, survived or error. ``failed`` are the cases that failed and whose scripts
    pass on the clean kernel; ``on_clean`` are the others. ``scripts`` is how many scripts ran.
    ``detail`` is the reason of the first failure, or what ended the run.
    """

    outcome: CheckOutcome
    failed: tuple[str, ...] = ()
    on_clean: tuple[str, ...] = ()
    scripts: int = 0
    seconds: float = Field(default=0.0, ge=0)
    detail: str | None = None


class MutantResult(ResultBase):
    """A kernel that is broken on purpose.

    ``outcome`` is caught, survived, does-not-apply, does-not-build, does-not-boot, error, or
    not-run in a list. ``seconds`` is from the start of its tests until the outcome was known,
    ``build_s`` what its build took before. ``caught_by`` has the tests that failed, which pass on
    the clean kernel; ``on_clean`` those that do not. ``rules`` has the outcome of the tests of each
    rule. ``config`` are the fragments that its kernel has beside those of the run.
    ``equivalent`` is a proof that no test can notice it: such a mutant may survive.
    ``upstream`` is the outcome of the kernel's own selftests; None: they did not run.
    """

    broken: str = ""
    breaks: tuple[str, ...] = ()
    commit: str | None = None
    kernels: tuple[str, ...] = ()
    config: tuple[str, ...] = ()
    always: bool = True
    equivalent: str | None = None
    caught_by: tuple[Catch, ...] = ()
    on_clean: tuple[str, ...] = ()
    tests: int = 0
    rules: dict[str, CheckOutcome] = Field(default_factory=dict)
    build_s: float = 0.0
    diff: str = ""
    detail: str | None = None
    upstream: UpstreamResult | None = None

    @property
    def is_news(self) -> bool:
        """Whether it survived without a proof that it has to."""
        return self.outcome is CheckOutcome.SURVIVED and self.equivalent is None

    @property
    def is_excused(self) -> bool:
        """Whether there is a proof that no test can notice it."""
        return self.equivalent is not None


class MutantReport(BaseReport):
    """``klp-harness mutants list|run``: one result for each kernel mutant."""

    command: Literal["mutants list", "mutants run"]
    results: tuple[MutantResult, ...] = ()
