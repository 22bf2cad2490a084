# SPDX-License-Identifier: GPL-2.0-only
"""Forks that are held on their way by gates, on a kernel that nobody has changed.

copy_process() (kernel/fork.c) touches user memory at known places: the arguments of clone3() before
anything is copied, the pidfd of CLONE_PIDFD between dup_task_struct() and klp_copy_process(), the
child's id of CLONE_CHILD_SETTID when the child runs for the first time. A page of a gate holds
parent or child there.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from harness.errors import HarnessError, UsageError
from harness.livepatch.tasks import PatchState, TaskHandle
from harness.livepatch.waiting import QUICK_S, scaled

if TYPE_CHECKING:
    from harness.deadline import Deadline
    from harness.livepatch.gates import Gate
    from harness.livepatch.guest import Guest, GuestProcess

_PROGRAM = "klp-fork"
_CHILD = "forked"
_STATES = "states"


class ForkingTask(TaskHandle):
    """The parent of a fork that is held on its way."""

    def __init__(
        self, guest: Guest, process: GuestProcess, *, tid_gate: Gate | None, spin: bool
    ) -> None:
        super().__init__(guest, process.pid, comm=_PROGRAM, pid=process.pid, kthread=False)
        self._process = process
        self._tid_gate = tid_gate
        self._spin = spin
        self._said: dict[str, Any] = {}

    def wait_in(self, gate: Gate, deadline: Deadline | None = None) -> None:
        """Wait until the parent sleeps in that gate; raises TimeoutError."""
        gate.await_task(self.tid, deadline)

    def child(self, deadline: Deadline | None = None) -> TaskHandle:
        """Return the child once the parent is back in user mode.

        A child with a gate of its own sleeps there. Raises TimeoutError.
        """
        deadline = deadline or scaled(self._guest, QUICK_S)
        tid = int(self._await(_CHILD, deadline))
        if self._tid_gate is not None:
            self._tid_gate.await_task(tid, deadline)
        return TaskHandle(self._guest, tid, comm=_PROGRAM, pid=tid, kthread=False)

    def child_saw(self, deadline: Deadline | None = None) -> tuple[PatchState, ...]:
        """Return the patch states that a spinning child read of itself, as its first deed.

        It has been in user mode before each. Raises TimeoutError.
        """
        if not self._spin:
            raise UsageError("only a child that spins tells its patch state", hint="spin=True")
        deadline = deadline or scaled(self._guest, QUICK_S)
        return tuple(PatchState(state) for state in self._await(_STATES, deadline))

    def finish(self, deadline: Deadline | None = None) -> None:
        """Let the child go and wait until both have ended; raises TimeoutError, HarnessError."""
        deadline = deadline or scaled(self._guest, QUICK_S)
        if self._spin:
            self._process.close_stdin()
        code = self._process.wait(deadline)
        if code:
            raise HarnessError(f"{_PROGRAM} ended with code {code}")

    def _await(self, key: str, deadline: Deadline) -> Any:
        while key not in self._said:
            self._said |= _line(self._process, deadline)
        return self._said[key]


class Forker:
    """Starts forks in one guest. The module klp_target_gate has to be loaded."""

    def __init__(self, guest: Guest) -> None:
        self._guest = guest

    def clone3(
        self,
        *,
        args: Gate | None = None,
        pidfd: Gate | None = None,
        child_tid: Gate | None = None,
        spin: bool = False,
    ) -> ForkingTask:
        """Close the gates named and start a fork; returns when it sleeps in the first of them.

        ``args``: the parent sleeps before anything is copied. ``pidfd``: the parent sleeps between
        dup_task_struct() and klp_copy_process(). ``child_tid``: the child sleeps before it is in
        user mode. ``spin``: the child stays in user mode until ``finish``.
        Raises TimeoutError, and HarnessError when the program fails.
        """
        used = {"args": args, "pidfd": pidfd, "tid": child_tid}
        words = [f"{name}={gate.number}" for name, gate in used.items() if gate is not None]
        process = self._guest.spawn(_PROGRAM, *words, *(["spin"] if spin else []))
        task = ForkingTask(self._guest, process, tid_gate=child_tid, spin=spin)
        deadline = scaled(self._guest, QUICK_S)
        ready = _line(process, deadline)
        if "ready" not in ready:
            raise HarnessError(f"{_PROGRAM} said {ready} where it should be ready")
        for gate in used.values():
            if gate is not None:
                gate.close()
        process.write_line("go")
        parent_gate = args or pidfd
        if parent_gate is not None:
            task.wait_in(parent_gate, deadline)
        return task


def _line(process: GuestProcess, deadline: Deadline) -> dict[str, Any]:
    try:
        text = process.next_line(deadline)
    except EOFError:
        raise HarnessError(
            f"{_PROGRAM} ended early, with code {process.wait(deadline)}",
            hint="/dev/klp_gate is there once the module klp_target_gate is loaded",
        ) from None
    try:
        said = json.loads(text)
    except ValueError:
        said = None
    if not isinstance(said, dict):
        raise HarnessError(f"{_PROGRAM} said {text!r}, which is not of its lines")
    return said
