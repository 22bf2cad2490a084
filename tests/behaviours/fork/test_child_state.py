# SPDX-License-Identifier: GPL-2.0-only
"""The patch state of a forked child (klp_copy_process(), kernel/livepatch/transition.c)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.agent_protocol import Op
from harness.livepatch.forker import Forker
from harness.livepatch.gates import Gates
from harness.livepatch.kernel_log import KernelLog
from harness.livepatch.patch import Livepatch
from harness.livepatch.tasks import PatchState, TaskHandle, Tasks
from harness.livepatch.transition_log import log_attempts
from harness.livepatch.waiting import poll

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from harness.vm.guest.machine import Machine

POST_GATE = 5
NAME = "klp_test_post_gate"


@pytest.mark.behaviour("FO-05")
def test_child_while_post_patch_runs(
    guest: Machine,
    livepatch: Livepatch,
    tasks: Tasks,
    gate: Gates,
    sample_modules: Mapping[str, Path],
) -> None:
    """A child forked after the transition ended, while post_patch still runs, reads -1."""
    gate.close(POST_GATE)
    guest.spawn("busybox", "insmod", guest.upload(sample_modules[NAME]))
    waiting = "/proc/klp_gate_waiting"
    assert poll(guest, waiting, Op.CONTAINS, f"{POST_GATE} ", deadline=guest.scaled(30))
    patch = livepatch.patch(NAME)
    assert patch.in_transition, "post_patch has returned"
    child = guest.spawn("sleep", "1000")
    assert tasks.get(child.pid).patch_state is PatchState.UNDEFINED
    assert patch.in_transition, "post_patch has returned"
    assert gate.waiting(POST_GATE)
    gate.open(POST_GATE)
    patch.wait_complete()
    assert tasks.get(child.pid).patch_state is PatchState.UNDEFINED


@pytest.mark.behaviour("FO-01")
def test_child_inherits_state_zero(
    guest: Machine, livepatch: Livepatch, tasks: Tasks, gate: Gates
) -> None:
    """A child forked during a transition by a parent in state 0 is in state 0 as well.

    The parent sleeps in the old body of gate 0 inside clone3(), and the child in that of gate 1
    before it reaches user mode: neither can switch until its gate opens. The parent has to sleep
    before the transition starts: since 6.12 a cond_resched() in clone3() may switch it (e3ff7c60).
    """
    parent = Forker(guest).clone3(pidfd=gate[0], child_tid=gate[1])
    patch = livepatch.load("klp_test_gate")
    tasks.wait_all(PatchState.PATCHED, held_by=parent)
    gate.open(0)
    child = parent.child()
    assert child.patch_state is PatchState.UNPATCHED
    assert patch.in_transition
    gate.open(1)
    patch.wait_complete()
    parent.finish()


@pytest.mark.behaviour("FO-01")
def test_child_inherits_state_one(
    guest: Machine, livepatch: Livepatch, tasks: Tasks, gate: Gates
) -> None:
    """A child forked during a transition by a parent in state 1 is in state 1 as well."""
    sleeper = gate.enter()
    patch = livepatch.load("klp_test_gate")
    tasks.wait_all(PatchState.PATCHED, held_by=sleeper)
    child = guest.spawn("sleep", "1000")
    assert tasks.get(child.pid).patch_state is PatchState.PATCHED
    assert patch.in_transition
    sleeper.release()
    patch.wait_complete()


@pytest.mark.behaviour("FO-09")
def test_child_that_has_not_run_yet(
    guest: Machine, livepatch: Livepatch, tasks: Tasks, gate: Gates, kernel_log: KernelLog
) -> None:
    """A child that has never run does not hold a transition: its stack can be trusted.

    Its parent sleeps in clone3() after copy_process(), so the child is in the list of tasks and was
    not woken. All of its stack is the frame that copy_thread() made, which returns to the beginning
    of ret_from_fork(): the unwinder must not look up the address before (3bf19a0f,
    arch/x86/kernel/unwind_orc.c).
    """
    parent = Forker(guest).clone3(parent_tid=gate[5])
    (child,) = [
        TaskHandle.of(guest, task)
        for task in tasks.sample().tasks
        if task.ppid == parent.pid and task.pid != parent.pid
    ]
    log_attempts(guest)
    patch = livepatch.load("klp_test_gate", wait=True)
    patch.disable()
    patch.wait_gone()
    assert not kernel_log.matching(f":{child.tid} has an unreliable stack")
    assert gate.waiting(5) == [parent.tid], "the child was woken"
    assert _switches(guest, child) == 0, "the child has run"
    gate.open(5)
    parent.finish()


def _switches(guest: Machine, task: TaskHandle) -> int:
    """Return how often a task has left its CPU."""
    status = guest.read(f"/proc/{task.tid}/status").splitlines()
    return sum(int(line.split()[1]) for line in status if "_ctxt_switches:" in line)
