# SPDX-License-Identifier: GPL-2.0-only
"""Results of ``klp-harness mutants sweep``: one for each mechanical mutant."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from harness.report.base import BaseReport, CheckOutcome, Model, ResultBase

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.tools.mutants.sweep.candidates import Candidate
    from harness.tools.mutants.sweep.explained import Explained

How = Literal["test", "splat", "panic", "hang", "agent", "timeout"]

BY_OBJECT = "the compiler makes the same object file of it"


class Noticed(Model):
    """The test that noticed a mutant, and how.

    ``test``: its own assertion failed, or the kernel refused something. ``splat``, ``panic``: the
    kernel's log says so. ``hang``: the guest answered no more. ``agent``: the harness's program in
    the guest died, though the guest did not. ``timeout``: the test did not end in its time.
    """

    test: str
    how: How
    rules: tuple[str, ...] = ()
    reason: str = ""
    seconds: float = Field(default=0.0, ge=0)


class SweepResult(ResultBase):
    """A mechanical mutant. ``number`` is what the kernel's switch is set to.

    ``outcome`` is caught, survived, uncovered (no test reaches the code), equivalent (proved, as
    ``detail`` says), error, or not-run. ``seconds`` is the time that its tests took together.
    ``reached`` is the number of tests that reach its code, ``differs`` of those in which the
    mutated code has another value or effect at least once; ``ran`` are the tests that ran and
    passed. ``before`` is the outcome in the last sweep of the same kernel. ``explained``: the
    detail says what a test would need to notice it, and the command does not fail by it.
    """

    number: int
    file: str
    line: int
    function: str
    operator: str
    reached: int = 0
    differs: int = 0
    noticed: Noticed | None = None
    ran: tuple[str, ...] = ()
    diff: str = ""
    detail: str | None = None
    before: CheckOutcome | None = None
    explained: bool = False

    @property
    def is_excused(self) -> bool:
        """Whether it is known what a test would need to notice it."""
        return self.explained

    @property
    def group(self) -> str | None:
        """The source file."""
        return self.file

    @property
    def place(self) -> str:
        """The function with its parentheses, or a livepatch's table."""
        return self.function if self.function.startswith("table ") else f"{self.function}()"

    @property
    def is_gap(self) -> bool:
        """Whether the tests would not notice this change of the kernel."""
        unnoticed = self.outcome in (CheckOutcome.SURVIVED, CheckOutcome.UNCOVERED)
        return unnoticed and not self.explained


def result_of(
    mutant: Candidate,
    outcome: CheckOutcome,
    sources: Mapping[str, bytes],
    known: Mapping[str, Explained],
    *,
    detail: str | None = None,
) -> SweepResult:
    """Return a mutant's result, without what its tests were: explained, if its name is ``known``.

    ``sources`` are the files by name, without mutants.
    """
    explained = known.get(mutant.name)
    if outcome not in (CheckOutcome.SURVIVED, CheckOutcome.UNCOVERED):
        explained = None
    return SweepResult(
        id=mutant.name,
        outcome=outcome,
        seconds=0.0,
        number=mutant.number,
        file=mutant.file,
        line=mutant.line,
        function=mutant.function,
        operator=mutant.operator.value,
        diff=mutant.diff(sources[mutant.file]),
        detail=detail if explained is None else explained.why,
        explained=explained is not None,
    )


class LeftOutMutant(Model):
    """A mutant that this kernel cannot hold, and why."""

    name: str
    why: str


class SweepReport(BaseReport):
    """``klp-harness mutants sweep``: one result for each mutant.

    ``mutants`` is how many the files have, of which the results are all or a sample; ``unread`` has
    the lines in functions that the parser could not read. ``tests`` is how many tests could notice
    one, ``failing`` are those that fail without any. ``switch_s`` is the longest time that it took
    to set the switch of a guest. ``kept`` is how many results are those of an
    interrupted sweep. With ``--module`` the mutants are those of the livepatch ``module``, and
    ``scenes`` are those of verify in which each was tried.
    """

    command: Literal["mutants sweep"] = "mutants sweep"
    results: tuple[SweepResult, ...] = ()
    mutants: int = 0
    left_out: tuple[LeftOutMutant, ...] = ()
    unread: dict[str, tuple[int, ...]] = Field(default_factory=dict)
    tests: int = 0
    failing: tuple[str, ...] = ()
    switch_s: float = 0.0
    kept: int = 0
    module: str | None = None
    scenes: tuple[str, ...] = ()
