# SPDX-License-Identifier: GPL-2.0-only
"""Gates, against a scripted guest that models /dev/klp_gate."""

from __future__ import annotations

import json
from collections import deque

import pytest

from harness.deadline import Deadline
from harness.errors import HarnessError, UsageError
from harness.livepatch.gates import DEVICE, Body, Gates, GateTask, How
from harness.livepatch.tasks import PatchState, Tasks
from tests.unit.scripted_guest import ScriptedGuest, ScriptedProcess, ScriptedTask

OPEN = "/sys/class/misc/klp_gate/open"
WAITING = "/proc/klp_gate_waiting"


class GateGuest(ScriptedGuest):
    """A guest with the module klp_target_gate: a task that enters sleeps two steps later."""

    def __init__(self) -> None:
        super().__init__()
        self.body = "original"
        self.closed: set[int] = set()
        self.files[DEVICE] = ""
        self.files[WAITING] = ""
        self.files[OPEN] = "11111111\n"
        self.on_write[DEVICE] = self._control
        self.programs["klp-gate"] = self._enter
        self._inside: list[tuple[int, int, ScriptedProcess]] = []

    def _control(self, text: str) -> None:
        for line in text.splitlines():
            verb, number = line.split()
            if verb == "close":
                self.closed.add(int(number))
            else:
                self.closed.discard(int(number))
                self._leave(int(number))
        digits = ["0" if number in self.closed else "1" for number in range(8)]
        self.files[OPEN] = "".join(digits) + "\n"

    def _enter(self, args: tuple[str, ...]) -> ScriptedProcess:
        how, number = args[0], int(args[1])
        pid = 100 + 10 * len(self.scripted_tasks)
        tid = pid + 1 if how == "thread" else pid
        process = ScriptedProcess(pid=pid, says=deque([self._line(entering=number, tid=tid)]))
        if number in self.closed:
            process.code = None
            self.later(lambda: None, lambda: self._sleep(number, tid, process))
        else:
            process.says.append(
                self._line(left=number, tid=tid, value=self._answer(number), errno=0)
            )
        self.scripted_tasks.append(
            ScriptedTask(tid=tid, pid=pid, comm="klp-gate", patch_state=0, state="D")
        )
        return process

    def _sleep(self, number: int, tid: int, process: ScriptedProcess) -> None:
        self._inside.append((number, tid, process))
        self._show()

    def _leave(self, number: int) -> None:
        for gate, tid, process in self._inside:
            if gate == number:
                process.code = 0
                process.says.append(
                    self._line(left=gate, tid=tid, value=self._answer(gate), errno=0)
                )
        self._inside = [entry for entry in self._inside if entry[0] != number]
        self._show()

    def _show(self) -> None:
        lines = [f"{number} {tid}\n" for number, tid, _ in self._inside]
        self.files[WAITING] = "".join(lines)

    def _answer(self, number: int) -> str:
        return f"{number} {self.body}"

    @staticmethod
    def _line(**said: object) -> str:
        return json.dumps(said)


@pytest.fixture
def guest() -> GateGuest:
    return GateGuest()


@pytest.fixture
def gates(guest: GateGuest) -> Gates:
    return Gates(guest)


def test_enter_returns_a_task_that_sleeps_there(gates: Gates, guest: GateGuest) -> None:
    """enter() closes the gate, and returns when the task is asleep in it."""
    sleeper = gates.enter()
    assert isinstance(sleeper, GateTask)
    assert gates.waiting() == [sleeper.tid]
    assert not gates.is_open(0)
    assert gates.is_open(1)
    assert sleeper.patch_state is PatchState.UNPATCHED
    assert Tasks(guest).get(sleeper.tid) == sleeper


def test_a_thread_has_its_own_id(gates: Gates) -> None:
    """The task in the gate is the thread, not its leader."""
    sleeper = gates.enter(2, how=How.THREAD)
    assert sleeper.tid == sleeper.pid + 1
    assert gates.waiting(2) == [sleeper.tid]


def test_release(gates: Gates, guest: GateGuest) -> None:
    """release() opens the gate and returns which body the call ran."""
    sleeper = gates.enter(1)
    guest.body = "patched"
    left = sleeper.release()
    assert (left.gate, left.value, left.errno, left.body) == (1, "1 patched", 0, Body.PATCHED)
    assert gates.waiting() == []


def test_open_and_leave(gates: Gates) -> None:
    """Opening all gates wakes all sleepers."""
    first, second = gates.enter(0), gates.enter(4)
    gates.open()
    assert first.leave().gate == 0
    assert second.leave().gate == 4
    assert gates.is_open(0)
    assert gates.is_open(4)


def test_open_one(gates: Gates) -> None:
    """Opening one gate leaves the others closed."""
    gates.enter(0)
    held = gates.enter(4)
    gates.open(0)
    assert gates.waiting() == [held.tid]
    assert not gates.is_open(4)


def test_call(gates: Gates) -> None:
    """A call through an open gate returns at once, and sleeps nowhere."""
    assert gates.call().body is Body.ORIGINAL
    assert gates[3].call(How.READ).gate == 3


def test_ids_that_begin_alike(gates: Gates, guest: GateGuest) -> None:
    """A sleeper 1230 in the gate is not the task 123."""
    guest.files[WAITING] = "0 1230\n"
    with pytest.raises(TimeoutError, match="task 123 does not sleep in gate 0"):
        gates[0].await_task(123, Deadline.after(0))
    gates[0].await_task(1230)


def test_a_task_that_does_not_get_there(gates: Gates, guest: GateGuest) -> None:
    """The error has the stack of the task."""
    real = guest.programs["klp-gate"]

    def astray(args: tuple[str, ...]) -> ScriptedProcess:
        guest.closed.clear()
        process = real(args)
        process.code = None
        guest.scripted_tasks[-1].stack = "[<0>] elsewhere+0x1/0x2\n"
        return process

    guest.programs["klp-gate"] = astray
    with pytest.raises(HarnessError, match="did not enter gate 0") as caught:
        gates.enter()
    assert caught.value.details == ("[<0>] elsewhere+0x1/0x2",)


@pytest.mark.parametrize("says", [["no JSON"], ["[1]"], ['{"other": 1}']])
def test_a_program_that_says_something_else(
    gates: Gates, guest: GateGuest, says: list[str]
) -> None:
    """A line of another form is an error of the harness."""
    guest.programs["klp-gate"] = lambda args: ScriptedProcess(pid=5, says=deque(says))
    with pytest.raises(HarnessError, match="where 'entering' was expected"):
        gates.enter()


def test_without_the_module(gates: Gates, guest: GateGuest) -> None:
    """A program that ends at once is an error with its code and a hint."""
    guest.programs["klp-gate"] = lambda args: ScriptedProcess(pid=5, code=2)
    with pytest.raises(HarnessError, match="ended early, with code 2") as caught:
        gates.call()
    assert caught.value.hint is not None
    assert "klp_target_gate" in caught.value.hint


def test_a_program_that_fails_at_its_end(gates: Gates, guest: GateGuest) -> None:
    """An exit code after the call is not overlooked."""
    sleeper = gates.enter()
    gates.open()
    sleeper.process.code = 3  # type: ignore[attr-defined]
    with pytest.raises(HarnessError, match="code 3"):
        sleeper.leave()


def test_no_such_gate(gates: Gates) -> None:
    """There are eight gates; a negative number does not count from the end."""
    for number in (-1, 8):
        with pytest.raises(UsageError, match="no gate"):
            gates.enter(number)
