# SPDX-License-Identifier: GPL-2.0-only
"""Results of a recording: a livepatch that was loaded, watched and unloaded."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from harness.report.base import ErrorFacts, Model, ResultBase


class MarkKind(StrEnum):
    """Kinds of marks: of a transition, of a fake signal or force, or a note of the run."""

    STARTS = "starts"
    REVERSED = "reversed"
    COMPLETE = "complete"
    SIGNAL = "signal"
    FORCE = "force"
    NOTE = "note"


class HeldTask(Model):
    """A task that the kernel tried to switch and could not.

    ``why`` is a text; ``function`` is the patched function that it sleeps in, None for none.
    """

    tid: int
    comm: str
    why: str
    function: str | None = None


class Attempt(Model):
    """An attempt of the kernel that did not switch all tasks. There is one about every second."""

    at_s: float
    held: tuple[HeldTask, ...]


class TaskSwitch(Model):
    """A task that switched from one patch state to the other, and when that was first seen."""

    at_s: float
    tid: int
    comm: str
    kthread: bool
    before: int
    after: int


class Callback(Model):
    """A callback that the kernel log reports. ``state`` is that of the target module, or "-"."""

    at_s: float
    patch: str
    phase: str
    object: str
    state: str


class Phase(Model):
    """A transition, or a part of it in one direction. ``end_s`` is None when it did not end."""

    patch: str = ""
    direction: Literal["patching", "unpatching"]
    start_s: float
    end_s: float | None
    switches: tuple[TaskSwitch, ...]


class StateChange(Model):
    """A task's patch state from that time on; None: the task has exited."""

    at_s: float
    state: int | None


class TaskHistory(Model):
    """All patch states that a task was seen to have."""

    tid: int
    comm: str
    kthread: bool
    changes: tuple[StateChange, ...]


class Mark(Model):
    """An event on the time axis."""

    at_s: float
    what: str
    kind: MarkKind = MarkKind.NOTE


class RunResult(ResultBase):
    """A livepatch module, loaded, watched and unloaded. ``id`` is the module's name.

    All times are seconds since the start of the recording, by the guest's monotonic clock.
    ``phases`` has the tasks that switched, ``tasks`` the history of every task, ``attempts`` the
    tasks that the kernel could not switch, None when it does not log them. ``targets`` were loaded
    before it, ``absent`` are modules that it patches and that have no known file.
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
