# SPDX-License-Identifier: GPL-2.0-only
"""What was seen of one livepatch that was loaded, watched and unloaded."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from harness.report.base import ErrorFacts, Model, ResultBase


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


class TaskSwitch(Model):
    """A task that came from one patch state to the other, when that was first seen."""

    at_s: float
    tid: int
    comm: str
    kthread: bool
    before: int
    after: int


class Callback(Model):
    """A callback as the kernel log tells of it. ``state`` is that of the target module, or "-"."""

    at_s: float
    patch: str
    phase: str
    object: str
    state: str


class Phase(Model):
    """One transition: ``direction`` is where it went, ``end_s`` is None when it did not end."""

    patch: str = ""
    direction: Literal["patching", "unpatching"]
    start_s: float
    end_s: float | None
    switches: tuple[TaskSwitch, ...]


class StateChange(Model):
    """A task's patch state from that moment on; None: the task is gone."""

    at_s: float
    state: int | None


class TaskHistory(Model):
    """All patch states that one task was seen in."""

    tid: int
    comm: str
    kthread: bool
    changes: tuple[StateChange, ...]


class Mark(Model):
    """Something worth a mark on the time axis."""

    at_s: float
    what: str
    kind: MarkKind = MarkKind.NOTE


class RunResult(ResultBase):
    """A livepatch module, loaded, watched and unloaded. ``id`` is the module's name.

    All times are seconds since recording began, by the guest's monotonic clock. ``phases`` names
    the tasks that switched, ``tasks`` has the whole history of every task, ``attempts`` whom the
    kernel could not switch; None: it does not tell. ``targets`` were loaded before it, ``absent``
    are modules that it patches and of which no file was known.
    """

    module: str
    targets: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    functions: tuple[str, ...] = ()
    phases: tuple[Phase, ...] = ()
    marks: tuple[Mark, ...] = ()
    tasks: tuple[TaskHistory, ...] = ()
    callbacks: tuple[Callback, ...] = ()
    attempts: tuple[Attempt, ...] | None = None
    log: tuple[str, ...] = ()
    error: ErrorFacts | None = None
