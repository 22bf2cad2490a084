# SPDX-License-Identifier: GPL-2.0-only
"""A kernel without reliable stack traces (67059d65)."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from harness.deadline import wait_until
from harness.livepatch.gates import Gates
from harness.livepatch.kernel_log import KernelLog
from harness.livepatch.patch import Livepatch
from harness.livepatch.tasks import PatchState, TaskHandle, Tasks

if TYPE_CHECKING:
    from harness.vm.guest.machine import Machine

PLAIN = 5  # a gate that no patch touches
SPIN = "while :; do :; done"
NO_MODEL = "doesn't have support for the livepatch consistency model"


@pytest.mark.slow(22)
@pytest.mark.kernel_config("no-reliable-stack")
@pytest.mark.behaviour("TR-22")
@pytest.mark.behaviour("TR-48")
def test_switching_at_the_exit_alone(
    guest: Machine, livepatch: Livepatch, tasks: Tasks, gate: Gates, kernel_log: KernelLog
) -> None:
    """The kernel logs it. User tasks switch at the kernel's exit, kernel threads do not switch.

    Tasks that sleep in the kernel, in any function, do not switch either, until the fake signal
    after 15 tries makes those leave that can. Only force ends the transition.
    """
    sleeper = gate.enter(PLAIN)
    idle = tasks.get(guest.spawn("sleep", "10000").pid)
    spinning = guest.spawn("sh", "-c", SPIN)
    spinner = tasks.get(spinning.pid)
    patch = livepatch.load("klp_test_gate")
    assert kernel_log.matching(NO_MODEL)
    spinner.wait_state(PatchState.PATCHED)
    spinning.signal(signal.SIGKILL)  # what follows takes 15 s
    assert (idle.patch_state, sleeper.patch_state) == (PatchState.UNPATCHED,) * 2
    kernel_log.wait_for("signaling remaining tasks", guest.scaled(30))
    assert wait_until(
        lambda: _states(tasks, kthreads=False, but=sleeper) == {PatchState.PATCHED},
        guest.scaled(30),
        interval_s=0.5,
    ), _states(tasks, kthreads=False, but=sleeper)
    assert (idle.patch_state, sleeper.patch_state) == (PatchState.PATCHED, PatchState.UNPATCHED)
    assert _states(tasks, kthreads=True) == {PatchState.UNPATCHED}
    sleeper.release()
    assert patch.in_transition
    patch.force()
    patch.wait_complete()
    assert tasks.states() == {PatchState.UNDEFINED}
    assert len(kernel_log.matching(NO_MODEL)) == 1, "said again for tasks or tries"


def _states(tasks: Tasks, *, kthreads: bool, but: TaskHandle | None = None) -> set[PatchState]:
    """Return the patch states of all kernel threads, or of all other tasks."""
    left_out = but.tid if but else None
    return {
        PatchState(-1 if task.patch_state is None else task.patch_state)
        for task in tasks.sample().tasks
        if task.kthread is kthreads and task.tid != left_out
    }
