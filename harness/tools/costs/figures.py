# SPDX-License-Identifier: GPL-2.0-only
"""What is measured: the figures by their names, and what each means. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from harness.observer.cost_results import CostKind

if TYPE_CHECKING:
    from harness.observer.cost_results import CostLock, CostPhase

SLEEPERS = (0, 100, 1_000, 5_000)
"""How many threads sleep beside the guest's own tasks."""

MOST_SLEEPERS = 5_000
"""For so many a guest has memory."""

FUNCTIONS = (1, 10, 100, 400)
"""How many functions a livepatch has."""

CALLS = {
    "call-unpatched": "not patched",
    "call-kprobe": "not patched, with a kprobe",
    "call-tracer": "not patched, traced by ftrace",
    "call-patched": "patched",
    "call-patched-kprobe": "patched, with a kprobe",
    "call-patched-tracer": "patched, traced by ftrace",
    "call-transition-new": "in transition, task in state 1",
    "call-transition-old": "in transition, task in state 0",
    "call-stacked-1": "1 livepatch",
    "call-stacked-2": "2 livepatches, one above the other",
    "call-stacked-15": "15 livepatches, one above the other",
    "call-unloaded": "after the livepatch was unloaded",
}
"""Calls of a function, from its first instruction to the first of the version that runs."""

ATTEMPTS = {
    "attempt-task": "an attempt to patch, for each task",
    "attempt-undo-task": "an attempt to unpatch, for each task",
    "attempt-vain-task": "an attempt in vain, for each task that has switched",
    "patch-function": "to patch, for each function",
    "unpatch-function": "to unpatch, for each function",
}
"""Slopes of a line through figures of several sizes."""

TASK_LOCK = "task"
"""The lock of a task, and that of its runqueue, by one name."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A figure that was taken: its samples, and for a transition what they are made of."""

    figure: str
    kind: CostKind
    what: str
    values: tuple[float, ...]
    tasks: int | None = None
    functions: int | None = None
    phases: tuple[CostPhase, ...] = field(default=())
    locks: tuple[CostLock, ...] = field(default=())
    waits: int | None = None


def transition_name(kind: CostKind, sleepers: int, functions: int) -> str:
    """Return the name of a transition's figure: ``patching-400-functions-1000-sleepers``."""
    return f"{kind.value}-{functions}-functions-{sleepers}-sleepers"


def vain_name(sleepers: int) -> str:
    """Return the name of the figure of an attempt that does not switch the last task."""
    return f"attempt-vain-{sleepers}-sleepers"


def transition_what(kind: CostKind, functions: int, tasks: int) -> str:
    """Return what a transition's figure is of."""
    of = "1 function" if functions == 1 else f"{functions} functions"
    return f"{kind.value} {of} beside {tasks:,} tasks"


def called(name: str) -> Finding:
    """Return a figure of calls without samples."""
    return Finding(figure=name, kind=CostKind.CALL, what=CALLS[name], values=())
