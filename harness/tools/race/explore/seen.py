# SPDX-License-Identifier: GPL-2.0-only
"""What a trial has shown, and in which order A and B acted where nothing was held."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from harness.tools.race.explore.control import BLOCKED

if TYPE_CHECKING:
    from harness.errors import KernelVerdict
    from harness.tools.race.explore.results import ExploreCall


class Move(StrEnum):
    """Something of a sequential order: a step of A's or B's, or a wait until all has settled."""

    A = "A"
    B = "B"
    SETTLE = "settle"


Order = tuple[Move, ...]


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What a trial has shown. ``b`` is how B fared while A was held; None in an order.

    ``also_blocked``: at so many of the next holds B waited for the same lock.
    ``ended``: A, B and what comes after them have ended. ``verdict`` is a splat, or
    how the guest ended. ``earlier`` are the trials that this guest
    had made before. ``violation`` is the first kind in which consistency was violated, and
    ``violations`` are all in words.
    """

    plan: str
    reached: bool
    b: str | None
    ended: bool
    also_blocked: int = 0
    a_errors: tuple[int, ...] = ()
    b_errors: tuple[int, ...] = ()
    state: str = ""
    problems: tuple[str, ...] = ()
    child: tuple[int, ...] = ()
    verdict: KernelVerdict | None = None
    seconds: float = 0.0
    cpu_s: float = 0.0
    stuck: str = ""
    console: tuple[str, ...] = ()
    calls: tuple[ExploreCall, ...] = ()
    calls_before: int = 0
    violation: str | None = None
    violations: tuple[str, ...] = ()
    earlier: tuple[str, ...] = ()

    @property
    def is_clean(self) -> bool:
        """Whether all of it has ended, and nothing is wrong with it by itself."""
        return self.ended and not (self.verdict or self.violation or self.problems)

    @property
    def b_waited(self) -> bool:
        """Whether B had not ended when A went on."""
        return self.b is not None and self.b.startswith((BLOCKED, "running"))

    @property
    def outcome(self) -> tuple[object, ...]:
        """What two orders of A and B may differ in."""
        return (self.a_errors, self.b_errors, self.state, self.problems)
