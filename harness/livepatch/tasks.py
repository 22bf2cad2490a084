# SPDX-License-Identifier: GPL-2.0-only
"""Tasks of the guest and their patch states."""

from __future__ import annotations

import contextlib
import errno
import math
from enum import IntEnum
from typing import TYPE_CHECKING

from harness.agent_protocol import Op
from harness.errors import (
    HarnessError,
    TransitionNotHeld,
    TransitionTimeout,
    UsageError,
    WrongAttribute,
    errno_text,
)
from harness.livepatch.sysfs import number
from harness.livepatch.waiting import QUICK_S, TRANSITION_S, poll, scaled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from harness.agent_protocol import Task, TaskSample
    from harness.deadline import Deadline
    from harness.livepatch.guest import Guest

# Whether a transition that is held goes on is looked at once in this time. The kernel looks once a
# second whether all tasks have switched.
_LOOK_S = 1.0


class PatchState(IntEnum):
    """A task's state in /proc/PID/patch_state (include/linux/livepatch.h)."""

    UNDEFINED = -1
    UNPATCHED = 0
    PATCHED = 1


class TaskHandle:
    """A thread of the guest, whether it still exists or not. Equal by thread id."""

    def __init__(self, guest: Guest, tid: int, *, comm: str, pid: int, kthread: bool) -> None:
        self._guest = guest
        self.tid = tid
        self.pid = pid
        self.comm = comm
        self.kthread = kthread

    @classmethod
    def of(cls, guest: Guest, task: Task) -> TaskHandle:
        """Return the handle of a task in a sample."""
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
        """Its patch state now. Raises FileNotFoundError or ProcessLookupError when it exited."""
        path = f"/proc/{self.tid}/patch_state"
        state = number(self._guest.read(path), path)
        if state not in tuple(PatchState):
            raise WrongAttribute(f"{path} reads {state}, which is no patch state")
        return PatchState(state)

    @property
    def state(self) -> str:
        """Its scheduler state, a letter: R, S, D, T, ... Raises OSError when it has exited."""
        # The name may hold blanks and brackets: the state follows the last bracket.
        return self._guest.read(f"/proc/{self.tid}/stat").rpartition(")")[2].split()[0]

    @property
    def alive(self) -> bool:
        """Whether it exists and is no zombie."""
        try:
            return self.state not in ("Z", "X")
        except (FileNotFoundError, ProcessLookupError):
            return False

    def stack(self) -> tuple[str, ...]:
        """Return the lines of /proc/TID/stack, innermost function first."""
        return tuple(self._guest.stack(self.tid).splitlines())

    def wait_state(self, state: PatchState, deadline: Deadline | None = None) -> None:
        """Wait until it has that patch state; raises TransitionTimeout with its stack."""
        path = f"/proc/{self.tid}/patch_state"
        deadline = deadline or scaled(self._guest, TRANSITION_S)
        if not poll(self._guest, path, Op.EQUALS, str(int(state)), deadline=deadline):
            raise TransitionTimeout(
                f"task {self.tid} ({self.comm}) did not switch to {state.name}",
                details=describe(self._guest, self),
            )

    def wait_gone(self, deadline: Deadline | None = None) -> None:
        """Wait until it has exited and was reaped; raises TransitionTimeout."""
        deadline = deadline or scaled(self._guest, QUICK_S)
        if not poll(self._guest, f"/proc/{self.tid}", Op.ABSENT, deadline=deadline):
            raise TransitionTimeout(
                f"task {self.tid} ({self.comm}) did not exit", details=describe(self._guest, self)
            )


class Tasks:
    """The threads of a guest, with its kernel threads."""

    def __init__(self, guest: Guest) -> None:
        self._guest = guest

    def sample(self) -> TaskSample:
        """Return all threads as they are now."""
        return self._guest.tasks()

    def states(self, *, but: TaskHandle | Iterable[TaskHandle] = ()) -> set[PatchState]:
        """Return the patch states that any threads but those have."""
        left_out = set(_tids(but))
        return {
            _patch_state(task) for task in self._guest.tasks().tasks if task.tid not in left_out
        }

    def in_state(self, state: PatchState) -> list[TaskHandle]:
        """Return the threads that have that patch state now."""
        return self._those(lambda task: _patch_state(task) is state)

    def find(self, comm: str) -> list[TaskHandle]:
        """Return the threads of that name; the kernel keeps 15 characters of a name."""
        return self._those(lambda task: task.comm == comm[:15])

    def get(self, tid: int) -> TaskHandle:
        """Return the thread of that id; raises ProcessLookupError when there is none."""
        for task in self._those(lambda task: task.tid == tid):
            return task
        raise ProcessLookupError(f"the guest has no task {tid}")

    def _those(self, wanted: Callable[[Task], bool]) -> list[TaskHandle]:
        tasks = self._guest.tasks().tasks
        return [TaskHandle.of(self._guest, task) for task in tasks if wanted(task)]

    def wait_all(
        self,
        state: PatchState,
        *,
        but: TaskHandle | Iterable[TaskHandle] = (),
        held_by: TaskHandle | Iterable[TaskHandle] = (),
        deadline: Deadline | None = None,
    ) -> None:
        """Wait until all threads have that patch state but those that hold the transition.

        The tasks in ``held_by`` must have the other state then, or TransitionNotHeld is raised;
        those in ``but`` may have any. Where there are some in ``held_by``, the transition must have
        begun, and its end is noticed within moments: nobody holds it then. Raises
        TransitionTimeout, which names each task that did not switch, with its stack.
        """
        deadline = deadline or scaled(self._guest, TRANSITION_S)
        holders = [held_by] if isinstance(held_by, TaskHandle) else list(held_by)
        left_out = sorted({*_tids(but), *_tids(holders)})
        while True:
            look_s = scaled(self._guest, _LOOK_S).remaining_s if holders else math.inf
            look = deadline.within(look_s)
            outcome = self._guest.poll_tasks(int(state), but=left_out, deadline=look)
            if not outcome.errno:
                for task in holders:
                    _check_held(self._guest, task, state)
                return
            if outcome.errno != errno.ETIMEDOUT:
                why = errno_text(outcome.errno)
                raise HarnessError(f"the tasks' patch states cannot be read: {why}")
            for task in holders:
                _check_not_over(self._guest, task, state)
            if not holders or deadline.expired:
                break
        stragglers = [TaskHandle.of(self._guest, task) for task in outcome.stragglers]
        count = "1 task" if len(stragglers) == 1 else f"{len(stragglers)} tasks"
        raise TransitionTimeout(
            f"{count} did not switch to {state.name}",
            details=tuple(line for task in stragglers for line in describe(self._guest, task)),
        )


def describe(guest: Guest, task: TaskHandle) -> tuple[str, ...]:
    """Return a line with the task and its states, then the lines of its kernel stack."""
    kind = "kernel thread" if task.kthread else "task"
    try:
        head = f"{kind} {task.tid} ({task.comm}): state {task.state}"
        head += f", patch state {int(task.patch_state)}"
        return (head, *(f"  {line}" for line in guest.stack(task.tid).splitlines()))
    except (FileNotFoundError, ProcessLookupError):
        return (f"{kind} {task.tid} ({task.comm}): has exited",)


def _check_not_over(guest: Guest, task: TaskHandle, state: PatchState) -> None:
    """Raise TransitionNotHeld when the task is in no transition any more."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        if task.patch_state is PatchState.UNDEFINED:
            _check_held(guest, task, state)


def _check_held(guest: Guest, task: TaskHandle, state: PatchState) -> None:
    other = PatchState.UNPATCHED if state is PatchState.PATCHED else PatchState.PATCHED
    found = task.patch_state
    if found is not other:
        raise TransitionNotHeld(
            f"task {task.tid} ({task.comm}) does not hold the transition: its patch state is "
            f"{found.name}, not {other.name}",
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
