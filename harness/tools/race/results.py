# SPDX-License-Identifier: GPL-2.0-only
"""Results of ``klp-harness race``, one for each reproducer, and of ``klp-harness bugs``."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from harness.report.base import BaseReport, ErrorFacts, Model, ResultBase
from harness.tools.race.explore.results import ExploreReport as ExploreReport


class RaceHit(Model):
    """A trial that showed the race; ``--seed`` repeats it. ``details`` begin with the splat.

    ``steps``: the shortest sequence of the fuzzer that shows it too, for ``--steps``. ``bug`` is
    the known bug that a hit of the fuzzer looks like; None: it is new.
    """

    seed: int
    seconds: float
    message: str
    details: tuple[str, ...] = ()
    logs: str | None = None
    steps: str | None = None
    bug: str | None = None


class StoryKind(StrEnum):
    """What a line of a story is about."""

    MODULE = "module"
    PATCH = "patch"
    TRANSITION = "transition"
    ATTEMPT = "attempt"
    SWITCH = "switch"
    CALL = "call"
    FORK = "fork"
    EXIT = "exit"
    SPLAT = "splat"
    VIOLATION = "violation"


class StoryLine(Model):
    """A line of what a replay shows: ``at`` counts instructions since the first line.

    ``task`` is who did it, ``state`` that task's patch state then; None where it has none. A
    ``switch`` names in ``switched`` the tasks that got the state ``to``, in the kernel's function
    ``function``; a ``fork`` its child, the start of a transition all tasks that take part.
    ``function`` and ``version`` of a call: a livepatch, or ``original``. ``times``: so often in a
    row. ``marked``: a task that holds the transition, a violation, a splat.
    """

    at: int
    kind: StoryKind
    task: str | None
    text: str
    state: int | None = None
    function: str | None = None
    version: str | None = None
    switched: tuple[str, ...] = ()
    to: int | None = None
    times: int = 1
    marked: bool = False


class RaceResult(ResultBase):
    """A reproducer, on the one kernel of the report.

    ``outcome`` is shown, not-shown, failed (the kernel failed in another way), error, or not-run in
    a list; for a replayed recording it is passed, and ``detail`` is what the recording shows.
    ``rule`` is the rule that a kernel with the race breaks, ``fixed_by`` a kernel commit.
    ``expected``: this kernel is known to have the race; ``known`` says why. A race that is shown
    fails the command, expected or not, unless it is ``excused``: --excuse-expected was given.
    ``trials`` are those that harness and host did not end, the first with ``seed``, each further
    one with the next number; ``low`` and ``high`` are the 95 % confidence interval of the rate of
    hits. ``story`` is of ``race replay --story``.
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
    story: tuple[StoryLine, ...] = ()
    error: ErrorFacts | None = None

    @property
    def is_excused(self) -> bool:
        """Whether the race is expected on this kernel, and the command does not fail for it."""
        return self.excused


class RaceReport(BaseReport):
    """``klp-harness race list|run|record|replay``: one result for each reproducer."""

    command: Literal["race list", "race run", "race record", "race replay"]
    results: tuple[RaceResult, ...] = ()


class BugState(StrEnum):
    """What the table of rules says of a bug on the kernels of a series."""

    SHOWN = "shown"
    HOLDS = "holds"
    NOT_APPLICABLE = "not-applicable"


class BugOnSeries(Model):
    """A bug on one series of kernels, such as 6.1.

    ``without`` names the option without which ``state`` is so, ``only`` the one with which it is;
    ``why`` says why, where the series has the bug or cannot have it.
    """

    series: str
    state: BugState
    without: str | None = None
    only: str | None = None
    why: str | None = None


class BugFix(Model):
    """A patch of a kernel that fixes a bug, as a path in a checkout, and the series it is for."""

    file: str
    series: tuple[str, ...]


class BugResult(ResultBase):
    """A bug of an unmodified kernel; ``id`` names its reproducer, ``report`` a file of a checkout.

    ``outcome`` is not-run: the states are those of the table of rules, which the suite keeps true.
    """

    title: str
    rule: str
    report: str
    kernels: tuple[BugOnSeries, ...]
    fixes: tuple[BugFix, ...] = ()


class BugsReport(BaseReport):
    """``klp-harness bugs``."""

    command: Literal["bugs"] = "bugs"
    results: tuple[BugResult, ...] = ()
