# SPDX-License-Identifier: GPL-2.0-only
"""Which sleepers hold a transition, and what makes them switch."""

from __future__ import annotations

import signal

import pytest

from harness.deadline import wait_until
from harness.livepatch.blockers import Blocker
from harness.livepatch.gates import Body, Gates, How
from harness.livepatch.kernel_log import KernelLog
from harness.livepatch.patch import Livepatch
from harness.livepatch.tasks import PatchState, Tasks
from harness.livepatch.transition_log import log_attempts
from harness.livepatch.waiting import QUICK_S, scaled
from harness.vm.guest.machine import Machine

INTERRUPTIBLE = 3
SECOND = 4
PLAIN = 5
RETRIES = 2


@pytest.mark.behaviour("TR-04")
def test_second_thread_blocks(
    guest: Machine, livepatch: Livepatch, tasks: Tasks, gate: Gates, kernel_log: KernelLog
) -> None:
    """A second thread that sleeps in the function holds the transition; its leader switches.

    The log of the kernel's tries shows it, not the patch state alone: that would not change either
    if the kernel tried to switch leaders only.
    """
    assert log_attempts(guest)
    sleeper = gate.enter(how=How.THREAD)
    assert sleeper.tid != sleeper.pid, "the sleeper is the leader of its process"
    patch = livepatch.load("klp_test_gate")
    tasks.wait_all(PatchState.PATCHED, held_by=sleeper)
    assert tasks.get(sleeper.pid).patch_state is PatchState.PATCHED
    assert patch.blockers() == [Blocker(sleeper, in_function="klp_gate_wait")]
    tried = rf":{sleeper.tid} is sleeping on function klp_gate_wait"
    deadline = scaled(guest, QUICK_S)
    assert wait_until(lambda: len(kernel_log.matching(tried)) >= RETRIES, deadline, interval_s=0.2)
    assert patch.in_transition
    sleeper.release()
    patch.wait_complete()


@pytest.mark.behaviour("TR-06")
def test_sleeper_elsewhere_does_not_block(livepatch: Livepatch, tasks: Tasks, gate: Gates) -> None:
    """A task that sleeps in a system call outside the patched set switches in its sleep."""
    sleeper = gate.enter(PLAIN)
    patch = livepatch.load("klp_test_gate")
    patch.wait_complete()
    assert gate.waiting() == [sleeper.tid], "it was woken"
    assert tasks.states() == {PatchState.UNDEFINED}
    assert sleeper.release().body is Body.ORIGINAL


@pytest.mark.behaviour("TR-07")
def test_second_function_is_checked(livepatch: Livepatch, tasks: Tasks, gate: Gates) -> None:
    """A task that sleeps in the second of the patched functions holds the transition, too."""
    sleeper = gate.enter(SECOND)
    patch = livepatch.load("klp_test_gate")
    tasks.wait_all(PatchState.PATCHED, held_by=sleeper)
    assert patch.blockers() == [Blocker(sleeper, in_function="klp_gate_wait_second")]
    assert patch.in_transition
    sleeper.release()
    patch.wait_complete()


@pytest.mark.behaviour("TR-08")
def test_disable_blocks_on_the_new_body(livepatch: Livepatch, tasks: Tasks, gate: Gates) -> None:
    """A task that sleeps in the new body holds a disable, and returns from that body."""
    patch = livepatch.load("klp_test_gate", wait=True)
    sleeper = gate.enter()
    patch.disable(wait=False)
    tasks.wait_all(PatchState.UNPATCHED, held_by=sleeper)
    assert patch.in_transition
    assert sleeper.release().body is Body.PATCHED
    patch.wait_gone()
    assert gate.call().body is Body.ORIGINAL


@pytest.mark.behaviour("TR-09")
def test_sleeper_in_an_older_patchs_body(livepatch: Livepatch, tasks: Tasks, gate: Gates) -> None:
    """A task in an older patch's body holds a newer patch of that function (d0807da7)."""
    livepatch.load("klp_test_gate", wait=True)
    sleeper = gate.enter()
    newer = livepatch.load("klp_test_gate_callbacks")
    tasks.wait_all(PatchState.PATCHED, held_by=sleeper)
    assert newer.in_transition
    sleeper.release()
    newer.wait_complete()


@pytest.mark.behaviour("TR-10")
def test_stop_and_continue(
    livepatch: Livepatch, tasks: Tasks, gate: Gates, kernel_log: KernelLog
) -> None:
    """SIGSTOP wakes a task that sleeps interruptibly in the function, and it switches.

    After SIGCONT its call restarts in the new body. The fake signal has no part in it.
    """
    sleeper = gate.enter(INTERRUPTIBLE)
    patch = livepatch.load("klp_test_gate")
    tasks.wait_all(PatchState.PATCHED, held_by=sleeper)
    sleeper.process.signal(signal.SIGSTOP)
    patch.wait_complete()
    assert sleeper.state == "T"
    assert not kernel_log.matching("signaling remaining tasks")
    sleeper.process.signal(signal.SIGCONT)
    gate[INTERRUPTIBLE].await_task(sleeper.tid)
    assert sleeper.release().body is Body.PATCHED


@pytest.mark.behaviour("TR-12")
def test_reversed_disable_ends_enabled(livepatch: Livepatch, tasks: Tasks, gate: Gates) -> None:
    """After a disable is reversed, the patch is enabled, and new calls run its body."""
    patch = livepatch.load("klp_test_gate", wait=True)
    sleeper = gate.enter(0)
    patch.disable(wait=False)
    tasks.wait_all(PatchState.UNPATCHED, held_by=sleeper)
    assert gate.call(1).body is Body.ORIGINAL
    patch.enable()
    patch.wait_complete()
    assert (patch.enabled, patch.in_transition) == (True, False)
    assert tasks.states() == {PatchState.UNDEFINED}
    assert gate.call(1).body is Body.PATCHED
    sleeper.release()


@pytest.mark.behaviour("TR-17")
def test_kernel_thread_blocks_until_woken(livepatch: Livepatch, tasks: Tasks) -> None:
    """A kernel thread that sleeps in the function holds the transition until it leaves that."""
    guest = livepatch.guest
    livepatch.load_target("klp_target_mod", busy=1)
    patch = livepatch.load("klp_test_busy")
    (thread,) = tasks.find("klp_target_busy")
    tasks.wait_all(PatchState.PATCHED, held_by=thread)
    assert thread.kthread
    assert patch.blockers() == [Blocker(thread, in_function="klp_target_busy")]
    guest.write("/sys/kernel/klp_target/release", "1\n")
    patch.wait_complete()
    assert thread.alive
    assert thread.patch_state is PatchState.UNDEFINED
