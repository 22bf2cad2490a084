# SPDX-License-Identifier: GPL-2.0-only
"""Rules as results: on the kernels that they were tested on, and compared between two."""

from __future__ import annotations

from enum import StrEnum

from harness.report.base import CheckOutcome, Model, ResultBase


class RuleOnKernel(Model):
    """The latest outcome of a rule on one kernel, which is the worst of its tests.

    ``expected`` is what the table says of that kernel, and ``detail`` the reason of a test that did
    not pass. ``at`` is when the last of its tests ended, ISO 8601.
    """

    version: str
    digest: str
    source: str
    outcome: CheckOutcome
    expected: CheckOutcome
    detail: str | None = None
    at: str | None = None

    @property
    def as_expected(self) -> bool:
        """Whether the outcome is the one that the table expects; not to have run counts so."""
        return self.outcome in (self.expected, CheckOutcome.NOT_RUN)


class BehaviourResult(ResultBase):
    """A rule of live patching. ``outcome`` is the worst of ``kernels``.

    ``tests`` are those with the rule's id as a marker, ``source`` is what it rests on, ``public``
    are the public suites that test it too.
    """

    holds: str
    tests: tuple[str, ...]
    source: tuple[str, ...] = ()
    public: tuple[str, ...] = ()
    kernels: tuple[RuleOnKernel, ...] = ()


class Change(StrEnum):
    """How a rule differs on the second kernel. ``worse``: it held before, and fails now."""

    SAME = "same"
    WORSE = "worse"
    BETTER = "better"
    OTHER = "other"


class CompareResult(ResultBase):
    """A rule on both kernels. ``outcome`` is failed when the change is for the worse.

    ``tests`` are those with different outcomes, ``detail`` is why one failed on the second kernel.
    """

    before: CheckOutcome
    after: CheckOutcome
    change: Change
    tests: tuple[str, ...] = ()
    detail: str | None = None
