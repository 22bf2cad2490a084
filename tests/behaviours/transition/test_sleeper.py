# SPDX-License-Identifier: GPL-2.0-only
"""A task that sleeps in a function of the patch holds the transition (d83a7cb3)."""

from __future__ import annotations

import itertools

import pytest

from harness.deadline import Deadline, wait_until
from harness.livepatch.blockers import Blocker
from harness.livepatch.gates import Body, Gates
from harness.livepatch.kernel_log import KernelLog
from harness.livepatch.patch import Livepatch
from harness.livepatch.tasks import PatchState, Tasks
from harness.vm.guest.machine import Machine

RETRIES = 3
DYNAMIC_DEBUG = "/sys/kernel/debug/dynamic_debug/control"


@pytest.mark.behaviour("TR-01")
def test_sleeper_holds_the_transition(livepatch: Livepatch, tasks: Tasks, gate: Gates) -> None:
    """A task that sleeps in a function of the patch holds the transition; all others switch."""
    sleeper = gate.enter()
    patch = livepatch.load("klp_test_gate")
    tasks.wait_all(PatchState.PATCHED, held_by=sleeper)
    assert patch.in_transition
    assert patch.blockers() == [Blocker(sleeper, in_function="klp_gate_wait")]
    gate.open()
    patch.wait_complete()
    assert not patch.in_transition
    assert tasks.states() == {PatchState.UNDEFINED}
    assert sleeper.leave().body is Body.ORIGINAL


@pytest.mark.behaviour("TR-02")
def test_each_task_gets_the_body_of_its_state(
    guest: Machine, livepatch: Livepatch, gate: Gates
) -> None:
    """During a transition a task in state 0 runs the old body, one in state 1 the new body.

    One read(2) of two pages goes through gates 0 and 1. The reader sleeps in the old body while the
    patch is loaded, and calls the function again in the same system call.
    """
    gate.close(0)
    gate.close(1)
    reader = guest.spawn("dd", "if=/dev/klp_gate", "bs=8192", "count=1")
    gate[0].await_task(reader.pid)
    patch = livepatch.load("klp_test_gate")
    gate.open(0)
    gate[1].await_task(reader.pid)
    assert patch.in_transition
    assert gate.call(2).body is Body.PATCHED, "a task that has switched runs the new body"
    assert patch.in_transition, "the reader has not returned to user space: it cannot have switched"
    gate.open(1)
    deadline = guest.scaled(10)
    assert [reader.next_line(deadline), reader.next_line(deadline)] == ["0 original", "1 original"]
    patch.wait_complete()
    assert gate.call(0).body is Body.PATCHED


@pytest.mark.behaviour("TR-15")
def test_blocked_transition_is_retried(
    guest: Machine, livepatch: Livepatch, gate: Gates, kernel_log: KernelLog
) -> None:
    """While a transition cannot complete, the kernel tries again about every second.

    klp_try_switch_task() logs at each try which task sleeps where; the times are those of the log.
    """
    guest.write(DYNAMIC_DEBUG, "file kernel/livepatch/transition.c +p\n")
    sleeper = gate.enter()
    patch = livepatch.load("klp_test_gate")
    pattern = rf":{sleeper.tid} is sleeping on function klp_gate_wait"
    deadline = Deadline.after(30 * guest.time_scale)
    assert wait_until(
        lambda: len(kernel_log.matching(pattern)) >= RETRIES, deadline, interval_s=0.5
    ), "no more tries were made"
    times_us = [record.us for record in kernel_log.matching(pattern)]
    pauses_us = [later - earlier for earlier, later in itertools.pairwise(times_us)]
    assert min(pauses_us) > 300_000, f"the kernel does not pause between tries: {pauses_us}"
    assert patch.in_transition
    gate.open()
    patch.wait_complete()


@pytest.mark.behaviour("TR-15")
def test_retry_needs_nobody_else(guest: Machine, livepatch: Livepatch, tasks: Tasks) -> None:
    """A kernel thread that sleeps elsewhere by then is switched by a retry.

    Nothing else can switch it: it never enters user space.
    """
    livepatch.load_target("klp_target_mod", busy=1)
    patch = livepatch.load("klp_test_busy")
    (thread,) = tasks.find("klp_target_busy")
    tasks.wait_all(PatchState.PATCHED, held_by=thread)
    assert patch.blockers() == [Blocker(thread, in_function="klp_target_busy")]
    guest.write("/sys/kernel/klp_target/release", "1\n")
    patch.wait_complete()
    assert tasks.states() == {PatchState.UNDEFINED}


@pytest.mark.behaviour("TR-16")
def test_enabled_flips_at_the_start(livepatch: Livepatch, gate: Gates) -> None:
    """``enabled`` changes when a transition starts; ``transition`` shows when it has ended."""
    sleeper = gate.enter()
    patch = livepatch.load("klp_test_gate")
    assert (patch.enabled, patch.in_transition) == (True, True)
    gate.open()
    patch.wait_complete()
    assert (patch.enabled, patch.in_transition) == (True, False)
    sleeper.leave()

    sleeper = gate.enter()
    patch.disable(wait=False)
    assert (patch.enabled, patch.in_transition) == (False, True)
    sleeper.release()
    patch.wait_gone()
