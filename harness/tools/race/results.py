# SPDX-License-Identifier: GPL-2.0-only
"""Results of ``klp-harness race``: one for each reproducer."""

from __future__ import annotations

from typing import Literal

from harness.report.base import BaseReport, ErrorFacts, Model, ResultBase


class RaceHit(Model):
    """A trial that showed the race; ``--seed`` repeats it. ``details`` begin with the splat.

    ``steps``: the shortest sequence of the fuzzer that shows it too, for ``--steps``.
    """

    seed: int
    seconds: float
    message: str
    details: tuple[str, ...] = ()
    logs: str | None = None
    steps: str | None = None


class RaceResult(ResultBase):
    """A reproducer, on the one kernel of the report.

    ``outcome`` is shown, not-shown, failed (the kernel failed in another way), error, or not-run in
    a list; for a replayed recording it is passed, and ``detail`` is what the recording shows.
    ``rule`` is the rule that a kernel with the race breaks, ``fixed_by`` a kernel commit.
    ``expected``: this kernel is known to have the race; ``known`` says why. A race that is shown
    fails the command, expected or not, unless it is ``excused``: --excuse-expected was given.
    ``trials`` are those that harness and host did not end, the first with ``seed``, each further
    one with the next number; ``low`` and ``high`` are the 95 % confidence interval of the rate of
    hits.
    """

    title: str
    rule: str
    fixed_by: str | None = None
    expected: bool = False
    known: str | None = None
    excused: bool = False
    seed: int | None = None
    trials: int = 0
    hits: tuple[RaceHit, ...] = ()
    low: float = 0.0
    high: float = 1.0
    first_hit_s: float | None = None
    detail: str | None = None
    error: ErrorFacts | None = None

    @property
    def is_excused(self) -> bool:
        """Whether the race is expected on this kernel, and the command does not fail for it."""
        return self.excused


class RaceReport(BaseReport):
    """``klp-harness race list|run|record|replay``: one result for each reproducer."""

    command: Literal["race list", "race run", "race record", "race replay"]
    results: tuple[RaceResult, ...] = ()
