# SPDX-License-Identifier: GPL-2.0-only
"""Forks that are held at certain points by gates, on an unmodified kernel.

copy_process() (kernel/fork.c) accesses user memory at known points: the arguments of clone3()
before anything is copied, the pidfd of CLONE_PIDFD between dup_task_struct() and
klp_copy_process(), the child's id of CLONE_PARENT_SETTID before the child is woken, that of
CLONE_CHILD_SETTID when the child runs for the first time. A page of a gate makes the parent or the
child sleep there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.errors import UsageError
from harness.livepatch.program_output import next_object, wait_success
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
    """The parent of a fork that is held by gates."""

    def __init__(
        self, guest: Guest, process: GuestProcess, *, tid_gate: Gate | None, spin: bool
    ) -> None:
        super().__init__(guest, process.pid, comm=_PROGRAM, pid=process.pid, kthread=False)
        self._process = process
        self._tid_gate = tid_gate
        self._spin = spin
        self._printed: dict[str, Any] = {}

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
        """Return the patch states that a spinning child read of itself, first of all.

        It was in user mode before each. Raises TimeoutError.
        """
        if not self._spin:
            raise UsageError("only a child that spins reports its patch state", hint="spin=True")
        deadline = deadline or scaled(self._guest, QUICK_S)
        return tuple(PatchState(state) for state in self._await(_STATES, deadline))

    def finish(self, deadline: Deadline | None = None) -> None:
        """End a spinning child and wait until both ended; raises TimeoutError, HarnessError."""
        deadline = deadline or scaled(self._guest, QUICK_S)
        if self._spin:
            self._process.close_stdin()
        wait_success(self._process, _PROGRAM, deadline)

    def _await(self, key: str, deadline: Deadline) -> Any:
        while key not in self._printed:
            self._printed |= next_object(self._process, _PROGRAM, deadline)
        return self._printed[key]


class Forker:
    """Starts forks in a guest in which the module klp_target_gate is loaded."""

    def __init__(self, guest: Guest) -> None:
        self._guest = guest

    def clone3(
        self,
        *,
        args: Gate | None = None,
        pidfd: Gate | None = None,
        parent_tid: Gate | None = None,
        child_tid: Gate | None = None,
        spin: bool = False,
        vfork: bool = False,
    ) -> ForkingTask:
        """Close the named gates and start a fork; return when it sleeps in the first of them.

        ``args``: the parent sleeps before anything is copied. ``pidfd``: the parent sleeps between
        dup_task_struct() and klp_copy_process(). ``parent_tid``: the parent sleeps before it wakes
        the child. ``child_tid``: the child sleeps before it is in user mode. ``spin``: the child
        stays in user mode until ``finish``. ``vfork``: the child shares the parent's memory, and
        the parent sleeps until it has exited.
        Raises TimeoutError, and HarnessError when the program fails.
        """
        used = {"args": args, "pidfd": pidfd, "ptid": parent_tid, "tid": child_tid}
        words = [f"{name}={gate.number}" for name, gate in used.items() if gate is not None]
        words += [name for name, wanted in (("spin", spin), ("vfork", vfork)) if wanted]
        process = self._guest.spawn(_PROGRAM, *words)
        task = ForkingTask(self._guest, process, tid_gate=child_tid, spin=spin)
        deadline = scaled(self._guest, QUICK_S)
        next_object(process, _PROGRAM, deadline, key="ready")
        for gate in used.values():
            if gate is not None:
                gate.close()
        process.write_line("go")
        parent_gate = args or pidfd or parent_tid
        if parent_gate is not None:
            task.wait_in(parent_gate, deadline)
        return task
