# SPDX-License-Identifier: GPL-2.0-only
"""Who held a transition up, attempt by attempt, and the kinds of marks on a time axis."""

from __future__ import annotations

from enum import StrEnum

from harness.report.base import Model


class MarkKind(StrEnum):
    """What a mark is of: a transition, what the kernel did about a task, or a note of the run."""

    STARTS = "starts"
    REVERSED = "reversed"
    COMPLETE = "complete"
    SIGNAL = "signal"
    FORCE = "force"
    NOTE = "note"


class HeldTask(Model):
    """A task that the kernel tried to switch and could not.

    ``why`` in words; ``function`` is the patched function on its stack, None when none was found.
    """

    tid: int
    comm: str
    why: str
    function: str | None = None


class Attempt(Model):
    """One attempt of the kernel that did not switch all tasks. It makes one about every second."""

    at_s: float
    held: tuple[HeldTask, ...]
