# SPDX-License-Identifier: GPL-2.0-only
"""How long a scene waits: longer for more functions, and while the kernel makes progress.

For each function, the kernel changes code when it sets the hook, and waits for a grace period of
RCU when it removes it (kernel/trace/ftrace.c, ftrace_shutdown()): a patch of 400 functions takes
half a minute to be removed, inside the write to ``enabled`` or in a worker. Slow is distinguished
from stuck by the number of functions in enabled_functions: it changes while the kernel makes
progress.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.deadline import Deadline

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from harness.agent_protocol import Op
    from harness.livepatch.patch import Patch
    from harness.vm.guest.machine import Machine

FUNCTION_S = 0.1
"""How long a hook may take to be set or removed on quick hardware, in seconds."""

_ENABLED = "/sys/kernel/tracing/enabled_functions"
_SLICE_S = 2.0
# For so long no hook may be set or removed; a grace period takes a tenth of a second.
_STALL_S = 10.0
_TCG_SCALE = 2.0
_RCU = ("synchronize_rcu", "synchronize_sched", "rcu_barrier", "wait_rcu_gp", "rcu_tasks")
_LOCKS = ("mutex_lock", "rwsem_down", "down_write", "down_read", "__down", "lock_page")


@dataclass(frozen=True, kw_only=True)
class Waited:
    """How long a transition took, in seconds, and how long tasks held it, as far as was seen."""

    seconds: float
    held_s: float


class Progress:
    """Whether the kernel sets or removes hooks."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._count: int | None = None
        self._stall = Deadline.after(0)
        self.looks = 0

    def allow(self) -> None:
        """Assume that the kernel makes progress, until it has done nothing for long."""
        self._stall = stall_deadline(self._machine)

    def look(self) -> None:
        """Count the hooks."""
        self.looks += 1
        try:
            count = len(self._machine.read(_ENABLED).splitlines())
        except (OSError, TimeoutError):
            return
        if self._count is not None and count != self._count:
            self.allow()
        self._count = count

    @property
    def goes_on(self) -> bool:
        """Whether a hook was set or removed in the last seconds, as far as ``look`` has seen."""
        return not self._stall.expired


def stall_deadline(machine: Machine) -> Deadline:
    """Return when a kernel that has done nothing until then is stuck."""
    return Deadline.after(_STALL_S * max(1.0, machine.time_scale / _TCG_SCALE))


class Waits:
    """The waits of one scene. ``check_stop`` raises when the scene is of no use any more.

    ``functions`` is how many the patch changes, as far as its file says.
    """

    def __init__(self, machine: Machine, *, functions: int, check_stop: Callable[[], None]) -> None:
        self._machine = machine
        self._functions = functions
        self._check_stop = check_stop

    def within_s(self, seconds: float) -> float:
        """Return how many seconds something may take here that concerns each function."""
        return seconds + self._functions * FUNCTION_S

    def scaled(self, seconds: float) -> Deadline:
        """Return the deadline of something that concerns each function, in this guest."""
        return self._machine.scaled(self.within_s(seconds))

    def complete(self, patch: Patch, limit_s: float) -> Waited:
        """Wait until the patch is in no transition.

        Past the limit only as long as hooks are set or removed, and no task holds it. Raises
        TransitionTimeout.
        """
        start_s = time.monotonic()
        held_s = 0.0
        deadline = Deadline.after(limit_s)
        progress = Progress(self._machine)
        while not patch.completes(deadline.within(_SLICE_S) if not deadline.expired else _slice()):
            self._check_stop()
            held = is_held(self._machine, patch)
            if held:
                held_s = time.monotonic() - start_s
            progress.look()
            # While tasks hold it, no hook is removed; and one look shows no change.
            seen = held or progress.looks > 1
            if deadline.expired and seen and (held or not progress.goes_on):
                raise patch.overdue(time.monotonic() - start_s)
        seconds = time.monotonic() - start_s
        return Waited(seconds=seconds, held_s=seconds if seconds < _SLICE_S else held_s)

    def go_on(self, act: Callable[[], None], done: Callable[[Deadline], bool]) -> None:
        """Do what may take long; after its time, wait for ``done`` while there is progress.

        Raises TimeoutError when it does not.
        """
        try:
            act()
        except TimeoutError:
            progress = Progress(self._machine)
            progress.allow()
            progress.look()
            while not done(_slice()):
                self._check_stop()
                progress.look()
                if not progress.goes_on:
                    raise

    def until_file(self, path: str, op: Op, value: str = "") -> Callable[[Deadline], bool]:
        """Return a wait for a file of the guest, for ``go_on``."""

        def met(deadline: Deadline) -> bool:
            return self._machine.poll_file(path, op, value, deadline=deadline).errno == 0

        return met


def _slice() -> Deadline:
    return Deadline.after(_SLICE_S)


def is_held(machine: Machine, patch: Patch) -> bool:
    """Return whether a task has not switched yet; with none, the kernel is busy with the hooks."""
    try:
        target = int(patch.enabled)
    except FileNotFoundError:
        return False
    states = (task.patch_state for task in machine.tasks().tasks)
    return any(state == 1 - target for state in states)


def advice_on_stacks(lines: Iterable[str]) -> str:
    """Return what to do about an access that does not return, by the stacks of those who wait."""
    text = "\n".join(lines)
    if any(word in text for word in _LOCKS):
        return "a task waits for a lock: look for one that is taken twice, or never released"
    if any(word in text for word in _RCU):
        return (
            "a task waits for a grace period of RCU, and no hook was set or removed meanwhile: "
            "look for a CPU or a task that never leaves the kernel"
        )
    if text:
        return "the stacks show where it waits"
    return "no task sleeps uninterruptibly: the kernel is busy, or waits for something of the patch"
