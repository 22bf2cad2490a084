# SPDX-License-Identifier: GPL-2.0-only
"""Tasks of the guest and their patch states."""

from __future__ import annotations

import errno
from enum import IntEnum
from typing import TYPE_CHECKING

from harness.agent_protocol import Op
from harness.errors import (
    HarnessError,
    TransitionNotHeld,
    TransitionTimeout,
    UsageError,
    errno_text,
)
from harness.livepatch.waiting import QUICK_S, TRANSITION_S, poll, scaled

if TYPE_CHECKING:
    from collections.abc import Iterable

    from harness.agent_protocol import Task, TaskSample
    from harness.deadline import Deadline
    from harness.livepatch.guest import Guest


class PatchState(IntEnum):
    """What /proc/PID/patch_state says (include/linux/livepatch.h)."""

    UNDEFINED = -1
    UNPATCHED = 0
    PATCHED = 1


class TaskHandle:
    """One thread of the guest. Handles of the same thread are equal."""

    def __init__(self, guest: Guest, tid: int, *, comm: str, pid: int, kthread: bool) -> None:
        self._guest = guest
        self.tid = tid
        self.pid = pid
        self.comm = comm
        self.kthread = kthread

    @classmethod
    def of(cls, guest: Guest, task: Task) -> TaskHandle:
        """Return the handle of a sampled task."""
        return cls(guest, task.tid, comm=task.comm, pid=task.pid, kthread=task.kthread)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, TaskHandle):
            return NotImplemented
        return self._guest is other._guest and self.tid == other.tid

    def __hash__(self) -> int:
        return hash(self.tid)

    def __repr__(self) -> str:
        return f"<task {self.tid} {self.comm}>"

    @property
    def patch_state(self) -> PatchState:
        """Its patch state now. Raises FileNotFoundError or ProcessLookupError when it has gone."""
        return PatchState(int(self._guest.read(f"/proc/{self.tid}/patch_state")))

    @property
    def state(self) -> str:
        """Its scheduler state as one letter: R, S, D, T, ... Raises OSError when it has gone."""
        # The name may hold blanks and brackets: what follows the last bracket is unambiguous.
        return self._guest.read(f"/proc/{self.tid}/stat").rpartition(")")[2].split()[0]

    @property
    def alive(self) -> bool:
        """Whether the task exists and is no zombie."""
        try:
            return self.state not in ("Z", "X")
        except (FileNotFoundError, ProcessLookupError):
            return False

    def stack(self) -> tuple[str, ...]:
        """Return the functions on its kernel stack as /proc/TID/stack has them, innermost first."""
        return tuple(self._guest.stack(self.tid).splitlines())

    def wait_state(self, state: PatchState, deadline: Deadline | None = None) -> None:
        """Wait until the task has that patch state; raises TransitionTimeout with its stack."""
        path = f"/proc/{self.tid}/patch_state"
        deadline = deadline or scaled(self._guest, TRANSITION_S)
        if not poll(self._guest, path, Op.EQUALS, str(int(state)), deadline=deadline):
            raise TransitionTimeout(
                f"task {self.tid} ({self.comm}) did not come to patch state {state.name}",
                details=describe(self._guest, self),
            )

    def wait_gone(self, deadline: Deadline | None = None) -> None:
        """Wait until the task has exited and was reaped; raises TransitionTimeout."""
        deadline = deadline or scaled(self._guest, QUICK_S)
        if not poll(self._guest, f"/proc/{self.tid}", Op.ABSENT, deadline=deadline):
            raise TransitionTimeout(
                f"task {self.tid} ({self.comm}) did not exit", details=describe(self._guest, self)
            )


class Tasks:
    """All threads of a guest, kernel threads included."""

    def __init__(self, guest: Guest) -> None:
        self._guest = guest

    def sample(self) -> TaskSample:
        """Return all threads as they are now."""
        return self._guest.tasks()

    def states(self, *, but: TaskHandle | Iterable[TaskHandle] = ()) -> set[PatchState]:
        """Return the patch states that occur among all threads except those."""
        left_out = set(_tids(but))
        return {
            _patch_state(task) for task in self._guest.tasks().tasks if task.tid not in left_out
        }

    def in_state(self, state: PatchState) -> list[TaskHandle]:
        """Return the threads that are in that patch state now."""
        return [
            TaskHandle.of(self._guest, task)
            for task in self._guest.tasks().tasks
            if _patch_state(task) is state
        ]

    def find(self, comm: str) -> list[TaskHandle]:
        """Return the threads of that name; the kernel keeps 15 characters of a name."""
        return [
            TaskHandle.of(self._guest, task)
            for task in self._guest.tasks().tasks
            if task.comm == comm[:15]
        ]

    def get(self, tid: int) -> TaskHandle:
        """Return the thread of that id; raises ProcessLookupError when there is none."""
        for task in self._guest.tasks().tasks:
            if task.tid == tid:
                return TaskHandle.of(self._guest, task)
        raise ProcessLookupError(f"the guest has no task {tid}")

    def wait_all(
        self,
        state: PatchState,
        *,
        but: TaskHandle | Iterable[TaskHandle] = (),
        held_by: TaskHandle | Iterable[TaskHandle] = (),
        deadline: Deadline | None = None,
    ) -> None:
        """Wait until every thread has that patch state, except those that hold the transition.

        Whoever is in ``held_by`` must still have the other state then; what those in ``but`` have
        is not looked at. Raises TransitionTimeout that names each straggler with its stack, and
        TransitionNotHeld.
        """
        deadline = deadline or scaled(self._guest, TRANSITION_S)
        holders = [held_by] if isinstance(held_by, TaskHandle) else list(held_by)
        left_out = sorted({*_tids(but), *_tids(holders)})
        outcome = self._guest.poll_tasks(int(state), but=left_out, deadline=deadline)
        if not outcome.errno:
            for task in holders:
                _see_held(self._guest, task, state)
            return
        if outcome.errno != errno.ETIMEDOUT:
            said = errno_text(outcome.errno)
            raise HarnessError(f"the tasks' patch states cannot be read: {said}")
        stragglers = [TaskHandle.of(self._guest, task) for task in outcome.stragglers]
        count = "1 task" if len(stragglers) == 1 else f"{len(stragglers)} tasks"
        raise TransitionTimeout(
            f"{count} did not come to patch state {state.name}",
            details=tuple(line for task in stragglers for line in describe(self._guest, task)),
        )


def describe(guest: Guest, task: TaskHandle) -> tuple[str, ...]:
    """Return a line on the task and then its kernel stack, for a person to read."""
    kind = "kernel thread" if task.kthread else "task"
    try:
        head = f"{kind} {task.tid} ({task.comm}): state {task.state}"
        head += f", patch state {int(task.patch_state)}"
        return (head, *(f"  {line}" for line in guest.stack(task.tid).splitlines()))
    except (FileNotFoundError, ProcessLookupError):
        return (f"{kind} {task.tid} ({task.comm}): has exited",)


def _see_held(guest: Guest, task: TaskHandle, state: PatchState) -> None:
    other = PatchState.UNPATCHED if state is PatchState.PATCHED else PatchState.PATCHED
    found = task.patch_state
    if found is not other:
        raise TransitionNotHeld(
            f"task {task.tid} ({task.comm}) has to hold the transition in patch state "
            f"{other.name}, and has {found.name}",
            details=describe(guest, task),
        )


def _patch_state(task: Task) -> PatchState:
    if task.patch_state is None:
        raise UsageError(
            "this kernel has no /proc/PID/patch_state",
            hint="it is built without CONFIG_LIVEPATCH",
        )
    return PatchState(task.patch_state)


def _tids(tasks: TaskHandle | Iterable[TaskHandle]) -> list[int]:
    if isinstance(tasks, TaskHandle):
        return [tasks.tid]
    return [task.tid for task in tasks]
