# SPDX-License-Identifier: GPL-2.0-only
"""Gates that hold a task inside a function: /dev/klp_gate of the module klp_target_gate."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from harness.agent_protocol import Op
from harness.errors import HarnessError, UsageError
from harness.livepatch.program_output import next_object, wait_success
from harness.livepatch.tasks import TaskHandle
from harness.livepatch.waiting import QUICK_S, poll, scaled

if TYPE_CHECKING:
    from harness.deadline import Deadline
    from harness.livepatch.guest import Guest, GuestProcess

GATES = 8
DEVICE = "/dev/klp_gate"
_OPEN = "/sys/class/misc/klp_gate/open"
_WAITING = "/proc/klp_gate_waiting"
_PROGRAM = "klp-gate"


class How(StrEnum):
    """How a task enters a gate: by reading, by touching a page, by reading in a second thread."""

    READ = "read"
    FAULT = "fault"
    THREAD = "thread"


class Body(StrEnum):
    """Which body of the gate function a call ran, as the device answers."""

    ORIGINAL = "original"
    PATCHED = "patched"


@dataclass(frozen=True, kw_only=True)
class GateExit:
    """How a call ended: the gate's number, the answer (None after a fault), the errno or 0."""

    gate: int
    value: str | None
    errno: int

    @property
    def body(self) -> Body:
        """Which body ran. Raises ValueError when the call gave no answer."""
        return Body((self.value or "").strip().rpartition(" ")[2])


class GateTask(TaskHandle):
    """A task that sleeps, or slept, in a gate."""

    def __init__(
        self, guest: Guest, gate: Gate, process: GuestProcess, *, tid: int, comm: str
    ) -> None:
        super().__init__(guest, tid, comm=comm, pid=process.pid, kthread=False)
        self.gate = gate
        self.process = process

    def leave(self, deadline: Deadline | None = None) -> GateExit:
        """Wait until the call has returned and the program has ended; its gate has to be open.

        Raises TimeoutError, and HarnessError when the program failed.
        """
        deadline = deadline or scaled(self._guest, QUICK_S)
        left = next_object(self.process, _PROGRAM, deadline, key="left")
        wait_success(self.process, _PROGRAM, deadline)
        value = None if left["value"] is None else str(left["value"])
        return GateExit(gate=left["left"], value=value, errno=left["errno"])

    def release(self, deadline: Deadline | None = None) -> GateExit:
        """Open its gate for all who sleep there, and wait until the call has returned."""
        self.gate.open()
        return self.leave(deadline)


class Gate:
    """One gate of the device."""

    def __init__(self, guest: Guest, number: int) -> None:
        self._guest = guest
        self.number = number

    def __repr__(self) -> str:
        return f"<gate {self.number}>"

    def open(self) -> None:
        """Open it: those who sleep in it go on."""
        self._guest.write(DEVICE, f"open {self.number}\n")

    def close(self) -> None:
        """Close it: who enters it from now on sleeps in it."""
        self._guest.write(DEVICE, f"close {self.number}\n")

    def waiting(self) -> list[int]:
        """Return the thread ids of the tasks that sleep in it."""
        return [tid for number, tid in _waiting(self._guest) if number == self.number]

    def call(self, how: How | str = How.READ, deadline: Deadline | None = None) -> GateExit:
        """Let a new task call through the gate, which has to be open; return how the call ended.

        Raises TimeoutError when the call does not return.
        """
        return self._start(How(how)).leave(deadline)

    def enter(self, how: How | str = How.READ, deadline: Deadline | None = None) -> GateTask:
        """Close the gate and start a task that enters it; return the task when it sleeps there.

        Raises HarnessError when it does not.
        """
        deadline = deadline or scaled(self._guest, QUICK_S)
        self.close()
        task = self._start(How(how))
        self._await(task, deadline)
        return task

    def await_task(self, tid: int, deadline: Deadline | None = None) -> None:
        """Wait until the thread of that id sleeps in the gate. Raises TimeoutError."""
        deadline = deadline or scaled(self._guest, QUICK_S)
        entry = f"{self.number} {tid}"
        while poll(self._guest, _WAITING, Op.CONTAINS, entry, deadline=deadline):
            # "0 12" is also found in "0 123".
            if tid in self.waiting():
                return
            if deadline.expired:
                break
        raise TimeoutError(f"task {tid} does not sleep in gate {self.number}")

    def _start(self, how: How) -> GateTask:
        process = self._guest.spawn(_PROGRAM, how.value, str(self.number))
        deadline = scaled(self._guest, QUICK_S)
        tid = int(next_object(process, _PROGRAM, deadline, key="entering")["tid"])
        return GateTask(self._guest, self, process, tid=tid, comm=_PROGRAM)

    def _await(self, task: GateTask, deadline: Deadline) -> None:
        try:
            self.await_task(task.tid, deadline)
        except TimeoutError as error:
            raise HarnessError(
                f"task {task.tid} did not enter gate {self.number}",
                hint="its stack shows where it is; a new body has to sleep in the gate too",
                details=task.stack() if task.alive else ("the task has exited",),
            ) from error


class Gates:
    """The eight gates of a guest; a task enters gate 0 unless another number is given.

    0, 1 and 2 are klp_gate_wait(), uninterruptible; 3 is klp_gate_wait_interruptible();
    4 is klp_gate_wait_second(); 5, 6 and 7 are klp_gate_wait_plain(), which no patch changes.
    """

    def __init__(self, guest: Guest) -> None:
        self._guest = guest
        self._gates = tuple(Gate(guest, number) for number in range(GATES))

    def __getitem__(self, number: int) -> Gate:
        if not 0 <= number < GATES:
            raise UsageError(f"there is no gate {number}: they are 0 to {GATES - 1}")
        return self._gates[number]

    def open(self, number: int | None = None) -> None:
        """Open one gate, or all of them: those who sleep there go on."""
        gates = range(GATES) if number is None else (self[number].number,)
        self._guest.write(DEVICE, "".join(f"open {n}\n" for n in gates))

    def close(self, number: int = 0) -> None:
        """Close a gate: who enters it from now on sleeps in it."""
        self[number].close()

    def is_open(self, number: int = 0) -> bool:
        """Return whether a gate is open."""
        return self._guest.read(_OPEN)[self[number].number] == "1"

    def waiting(self, number: int | None = None) -> list[int]:
        """Return the thread ids of the tasks that sleep in one gate, or in any."""
        return [tid for n, tid in _waiting(self._guest) if number is None or n == number]

    def enter(self, number: int = 0, *, how: How | str = How.READ) -> GateTask:
        """Close the gate, start a task that enters it, and return the task when it sleeps there."""
        return self[number].enter(how)

    def call(self, number: int = 0, *, how: How | str = How.READ) -> GateExit:
        """Let a new task call through an open gate; return how the call ended."""
        return self[number].call(how)


def _waiting(guest: Guest) -> list[tuple[int, int]]:
    pairs = []
    for line in guest.read(_WAITING).splitlines():
        number, tid = line.split()
        pairs.append((int(number), int(tid)))
    return pairs
