# SPDX-License-Identifier: GPL-2.0-only
"""Results of mutants: of kernels (``mutants list``, ``mutants run``) and of modules."""

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


class UpstreamResult(Model):
    """What the kernel's own selftests made of a mutant.

    ``outcome`` is caught, survived or error. ``failed`` are the cases that failed and whose scripts
    pass on the clean kernel; ``on_clean`` are the others. ``scripts`` is how many scripts ran.
    ``detail`` is what was said of the first, or what ended the run.
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
    the clean kernel; ``on_clean`` those that do not. ``rules`` has what the tests of each rule came
    to. ``equivalent`` is a proof that no test can see it: such a mutant may survive. ``upstream``
    is what the kernel's own selftests made of it; None: they were not asked for.
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
    upstream: UpstreamResult | None = None

    @property
    def is_news(self) -> bool:
        """Whether it survived without a proof that it has to."""
        return self.outcome is CheckOutcome.SURVIVED and self.equivalent is None


class Notice(Model):
    """A check of ``verify`` that a mutant fails, or that warns; see VerifyResult."""

    check: str
    code: str
    detail: str


class ModuleMutantResult(ResultBase):
    """A livepatch that is broken on purpose. ``id`` is module/kind/place.

    ``outcome`` is caught (a check failed that passes on the clean module), warned (none failed, and
    one warned that does not warn of the clean module), survived, does-not-load (the kernel refused
    it), error, not-run in a list, or not-applicable: the module has nothing of that kind, as
    ``detail`` says. ``kind`` is the operator's name, ``broken`` what it breaks, ``change`` what was
    changed here. ``caught_by`` are the checks that failed, ``warned_by`` those that warned;
    ``by_script``: only the check script noticed. ``scenes`` are those that were played.
    ``equivalent`` is a proof that nobody can see it: such a mutant may survive.
    """

    module: str
    kind: str
    broken: str
    change: str = ""
    equivalent: str | None = None
    scenes: tuple[str, ...] = ()
    caught_by: tuple[Notice, ...] = ()
    warned_by: tuple[Notice, ...] = ()
    by_script: bool = False
    detail: str | None = None

    @property
    def is_news(self) -> bool:
        """Whether it survived without a proof that it has to."""
        return self.outcome is CheckOutcome.SURVIVED and self.equivalent is None
