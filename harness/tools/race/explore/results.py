# SPDX-License-Identifier: GPL-2.0-only
"""Results of ``klp-harness race explore``: one for each pair of actions."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from harness.report.base import BaseReport, ErrorFacts, Model, ResultBase


class FindingKind(StrEnum):
    """How an interleaving differs from what is right.

    ``splat``: the kernel log has one, or the guest ended. ``stuck``: A, B or a transition does not
    end after the hold. ``violation``: a task entered what its patch state does not allow, or was
    switched inside of it. ``broken``: something is not as it has to be, such as a module that
    cannot be unloaded. ``outcome``: what A and B returned, or left, is what no order of the two
    gives.
    """

    SPLAT = "splat"
    STUCK = "stuck"
    VIOLATION = "violation"
    BROKEN = "broken"
    OUTCOME = "outcome"


class ExploreCall(Model):
    """A function that was entered by A, by B, or by another task, in the order of all."""

    by: Literal["A", "B", "other"]
    cpu: int
    function: str
    at_ms: float


class ExploreFinding(Model):
    """An interleaving that shows something.

    ``at`` is the first point of A at which it was shown, as --at takes it, and ``points`` are all;
    an order without a hold is written in letters. It was ``shown`` in so many of ``tries``.
    ``bug`` is the known bug that it looks like. ``b`` is how B fared while A was held. ``allowed``
    are the outcomes of the sequential orders. ``calls`` are those of a repetition, the first
    ``calls_before`` of them before A was held.
    """

    at: str
    kind: FindingKind
    message: str
    details: tuple[str, ...] = ()
    points: tuple[str, ...] = ()
    shown: int = 1
    tries: int = 1
    bug: str | None = None
    b: str | None = None
    outcome: str | None = None
    allowed: tuple[str, ...] = ()
    calls: tuple[ExploreCall, ...] = ()
    calls_before: int = 0
    console: tuple[str, ...] = ()
    again: str = ""


class ExploreResult(ResultBase):
    """A pair of actions on the one kernel of the report: A is held at points, B acts meanwhile.

    ``outcome`` is shown, not-shown, error, not-run (the command ended before the first trial, or
    A passes no point) or not-applicable (the kernel lacks what the pair needs). ``points`` is how
    many there are; of the ``tried`` ones A did not pass ``not_reached``, and B was ``blocked``
    until A went on. ``pruned`` were left out: B waited there for the same lock as at an earlier
    point; and ``alike``: since the point before A had touched no memory that B touches.
    ``unsteady``: outcomes that three repetitions did not show again. ``failed``: trials that the
    host ended. ``expected``: all findings are bugs that this kernel is known to have.
    """

    a: str
    b: str
    state: str
    points: int = 0
    tried: int = 0
    pruned: int = 0
    alike: int = 0
    not_reached: int = 0
    blocked: int = 0
    unsteady: int = 0
    failed: int = 0
    findings: tuple[ExploreFinding, ...] = ()
    expected: bool = False
    excused: bool = False
    detail: str | None = None
    error: ErrorFacts | None = None

    @property
    def is_excused(self) -> bool:
        """Whether its findings are known, and the command does not fail for them."""
        return self.excused


class ExploreReport(BaseReport):
    """``klp-harness race explore``: one result for each pair."""

    command: Literal["race explore"] = "race explore"
    results: tuple[ExploreResult, ...] = ()
