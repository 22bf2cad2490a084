# SPDX-License-Identifier: GPL-2.0-only
"""Transitions with processes that vfork, execute a program, or are traced."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from harness.deadline import wait_until
from harness.livepatch.forker import Forker
from harness.livepatch.gates import Body, Gates
from harness.livepatch.patch import Livepatch
from harness.livepatch.tasks import PatchState, TaskHandle, Tasks
from harness.livepatch.waiting import QUICK_S, scaled

if TYPE_CHECKING:
    from harness.vm.guest.machine import Machine
    from harness.vm.guest.spawned import SpawnedProcess

PATCH = "klp_test_gate"
PROGRAM = "/bin/klp-gate"
OPEN_GATE = 2  # of klp_gate_wait(), which tells the bodies apart
PLAIN = 5  # of a function that no patch touches


@pytest.mark.behaviour("TR-41")
def test_vfork(guest: Machine, livepatch: Livepatch, tasks: Tasks, gate: Gates) -> None:
    """A child that shares its parent's memory starts in its parent's state, and has its own then.

    Its parent sleeps in vfork() and is switched there, while the child still sleeps in the old
    body. Another parent vforks after it was switched.
    """
    parent = Forker(guest).clone3(pidfd=gate[0], child_tid=gate[1], vfork=True)
    patch = livepatch.load(PATCH)
    tasks.wait_all(PatchState.PATCHED, held_by=parent)
    gate.open(0)
    child = _sleeper(guest, tasks, gate, 1)
    assert child.patch_state is PatchState.UNPATCHED
    tasks.wait_all(PatchState.PATCHED, held_by=child)
    second = Forker(guest).clone3(child_tid=gate[PLAIN], vfork=True)
    late = _sleeper(guest, tasks, gate, PLAIN)
    assert [task.patch_state for task in (second, late)] == [PatchState.PATCHED] * 2
    assert child.patch_state is PatchState.UNPATCHED
    gate.open(1)
    patch.wait_complete()
    gate.open(PLAIN)
    parent.finish()
    second.finish()


@pytest.mark.behaviour("TR-50")
def test_zombie(guest: Machine, livepatch: Livepatch, tasks: Tasks) -> None:
    """A process that has ended, and whose parent does not care, is switched: it has no stack."""
    # The shell may reap what ends before it has become sleep.
    ends = "until grep -q ^sleep /proc/$$/comm; do :; done"
    parent = guest.spawn("sh", "-c", f"({ends}) & echo $!; exec sleep 10000")
    ended = int(parent.next_line(scaled(guest, QUICK_S)))
    stat = f"/proc/{ended}/stat"
    assert wait_until(lambda: ") Z " in guest.read(stat), scaled(guest, QUICK_S))
    livepatch.load_target("klp_target_mod")
    patch = livepatch.load("klp_test_target_fg", wait=True)
    assert tasks.states() == {PatchState.UNDEFINED}
    assert ") Z " in guest.read(stat)
    patch.disable()
    patch.wait_gone()


@pytest.mark.behaviour("TR-42")
@pytest.mark.parametrize("thread", [False, True], ids=["leader", "thread"])
def test_exec(
    guest: Machine, livepatch: Livepatch, tasks: Tasks, gate: Gates, thread: bool
) -> None:
    """A task that executes a program keeps its state until it is back in user mode, and its mark.

    It sleeps in the old body inside execve(), holds the transition, and goes on: the program then
    calls the new body at once. A thread that executes takes the place of its leader, which was in
    the other state.
    """
    process = guest.spawn(
        "klp-exec", *(["thread"] if thread else []), "0", PROGRAM, "read", str(OPEN_GATE)
    )
    executing = _next(guest, process)
    task = tasks.get(executing["tid"])
    assert (task.tid != task.pid) is thread
    gate.close(0)
    process.write_line("go")
    gate[0].await_task(task.tid)
    # It holds the transition until the program has made its call.
    blocker = gate.enter(1)
    patch = livepatch.load(PATCH)
    tasks.wait_all(PatchState.PATCHED, held_by=[task, blocker])
    gate.open(0)
    assert _next(guest, process) == {"entering": OPEN_GATE, "tid": task.pid}
    left = _next(guest, process)
    assert Body(left["value"].split()[-1]) is Body.PATCHED
    assert process.wait(guest.scaled(10)) == 0
    assert patch.in_transition
    blocker.release()
    patch.wait_complete()


@pytest.mark.behaviour("TR-43")
def test_stopped_by_a_tracer(
    guest: Machine, livepatch: Livepatch, tasks: Tasks, gate: Gates
) -> None:
    """A task that its tracer has stopped is switched where it stands, before and after a call.

    Stopped at the entry of a system call it has not called the patched function yet, and will run
    the new body. Stopped at the exit it has left the function, and does not hold the transition.
    """
    blocker = gate.enter(1)
    process = guest.spawn("klp-traced", str(OPEN_GATE))
    task = tasks.get(_stopped(guest, process, at="entry"))
    assert task.state == "t"
    patch = livepatch.load(PATCH)
    tasks.wait_all(PatchState.PATCHED, held_by=blocker)
    process.write_line("go on")
    assert _stopped(guest, process, at="exit") == task.tid
    blocker.release()
    patch.wait_complete()
    assert task.state == "t"
    patch.disable()
    patch.wait_gone()
    assert task.state == "t"
    process.write_line("go on")
    left = _next(guest, process)
    assert Body(left["value"].split()[-1]) is Body.PATCHED
    assert process.wait(guest.scaled(10)) == 0


def _sleeper(guest: Machine, tasks: Tasks, gate: Gates, number: int) -> TaskHandle:
    """Return the one task that sleeps in that gate, as soon as it does."""
    assert wait_until(lambda: bool(gate.waiting(number)), guest.scaled(10), interval_s=0.1)
    (tid,) = gate.waiting(number)
    return tasks.get(tid)


def _stopped(guest: Machine, process: SpawnedProcess, *, at: str) -> int:
    """Return the thread that is stopped there."""
    told = _next(guest, process)
    assert told["at"] == at
    return int(told["stopped"])


def _next(guest: Machine, process: SpawnedProcess) -> dict[str, Any]:
    line: dict[str, Any] = json.loads(process.next_line(guest.scaled(10)))
    return line
