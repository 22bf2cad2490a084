# SPDX-License-Identifier: GPL-2.0-only
"""Costs of live patching as results: a figure of one kernel, in instructions of the guest."""

from __future__ import annotations

from enum import StrEnum

from harness.report.base import Model, ResultBase


class CostKind(StrEnum):
    """What a figure is of: a call, an attempt, a transition in one of its directions."""

    CALL = "call"
    ATTEMPT = "attempt"
    PATCHING = "patching"
    UNPATCHING = "unpatching"


class CostPhase(Model):
    """A part of a transition, by the kernel's function, and the instructions executed in it."""

    name: str
    value: int


class CostLock(Model):
    """A lock that a transition takes: how often, and the longest time in instructions.

    ``longest`` counts what the holder executed, ``passed`` what all tasks and interrupts executed
    meanwhile, which is more where the holder sleeps.
    """

    name: str
    times: int
    longest: int
    passed: int


class CostResult(ResultBase):
    """A figure: ``value`` is the median of ``values``, in instructions. ``id``: FIGURE@KERNEL.

    ``tasks`` is how many there were, ``functions`` how many the livepatch has, None where that does
    not matter. ``phases`` make up ``value``; ``waits`` is how often the kernel waited for grace
    periods or for all CPUs.
    """

    figure: str
    kind: CostKind
    kernel: str
    what: str
    value: float
    values: tuple[float, ...]
    tasks: int | None = None
    functions: int | None = None
    phases: tuple[CostPhase, ...] = ()
    locks: tuple[CostLock, ...] = ()
    waits: int | None = None
    detail: str | None = None

    @property
    def is_slope(self) -> bool:
        """Whether it is what each task or function adds, from figures of several sizes."""
        return self.kind is CostKind.ATTEMPT and self.tasks is None

    @property
    def group(self) -> str | None:
        """The kernel."""
        return self.kernel


class CostChange(Model):
    """A figure that differs between two kernels, in instructions."""

    figure: str
    what: str
    before: float
    after: float

    @property
    def share(self) -> float:
        """The change as a share of what it was before: 0.5 is half as much again."""
        return (self.after - self.before) / self.before if self.before else float("inf")
