# SPDX-License-Identifier: GPL-2.0-only
"""Results of kernel mutants: ``mutants list`` and ``mutants run``."""

from __future__ import annotations

from pydantic import Field

from harness.report.base import CheckOutcome, Model, ResultBase


class Catch(Model):
    """A test that failed on a mutant; ``expected``: it carries a rule that the mutant breaks."""

    test: str
    rules: tuple[str, ...]
    seconds: float
    reason: str
    expected: bool


class MutantResult(ResultBase):
    """A kernel that is broken on purpose.

    ``outcome`` is caught, survived, does-not-apply, does-not-build, does-not-boot, error, or
    not-run in a list. ``seconds`` is from the start of its tests until the outcome was known,
    ``build_s`` what its build took before. ``caught_by`` has the tests that failed, which pass on
    the clean kernel; ``on_clean`` those that do not. ``rules`` has what the tests of each rule came
    to. ``equivalent`` is a proof that no test can see it: such a mutant may survive.
    """

    broken: str = ""
    breaks: tuple[str, ...] = ()
    commit: str | None = None
    kernels: tuple[str, ...] = ()
    always: bool = True
    equivalent: str | None = None
    caught_by: tuple[Catch, ...] = ()
    on_clean: tuple[str, ...] = ()
    tests: int = 0
    rules: dict[str, CheckOutcome] = Field(default_factory=dict)
    build_s: float = 0.0
    diff: str = ""
    detail: str | None = None

    @property
    def is_news(self) -> bool:
        """Whether it survived without a proof that it has to."""
        return self.outcome is CheckOutcome.SURVIVED and self.equivalent is None
