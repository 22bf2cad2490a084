# SPDX-License-Identifier: GPL-2.0-only
"""The fake signal for kernel threads, which are woken instead, repeatedly."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.deadline import Deadline
from harness.livepatch.blockers import Blocker
from harness.livepatch.gates import Gates
from harness.livepatch.kernel_log import KernelLog
from harness.livepatch.patch import Livepatch, Patch
from harness.livepatch.tasks import PatchState, Tasks
from harness.livepatch.waiting import QUICK_S

if TYPE_CHECKING:
    from harness.vm.guest.machine import Machine

NAP, DEEP = "klp_target_nap", "klp_target_deep"
TOO_DEEP = 120  # frames; kernel/livepatch/transition.c takes 100
PLAIN = 5  # a gate that no patch touches
SIGNALLING = "signaling remaining tasks"


@pytest.mark.slow(18)
@pytest.mark.behaviour("SG-03")
def test_kernel_thread_is_woken(livepatch: Livepatch, tasks: Tasks, kernel_log: KernelLog) -> None:
    """A kernel thread that sleeps interruptibly in a function is woken, leaves it and switches."""
    _blocked_by_naps(livepatch, tasks, naps=1)
    livepatch.patch("klp_test_symbol").wait_complete()
    assert _said(kernel_log) == [SIGNALLING, "nap 1 ended"]
    assert tasks.states() == {PatchState.UNDEFINED}


@pytest.mark.slow(33)
@pytest.mark.behaviour("SG-02")
def test_kernel_thread_that_needs_two_wake_ups(
    livepatch: Livepatch, tasks: Tasks, kernel_log: KernelLog
) -> None:
    """A kernel thread that has to be woken twice is woken twice (cba82dea)."""
    _blocked_by_naps(livepatch, tasks, naps=2)
    deadline = Deadline.after(90 * livepatch.guest.time_scale)
    livepatch.patch("klp_test_symbol").wait_complete(deadline)
    said = _said(kernel_log)
    assert [text for text in said if text != SIGNALLING] == ["nap 1 ended", "nap 2 ended"]
    assert said[0] == SIGNALLING
    assert tasks.states() == {PatchState.UNDEFINED}


@pytest.mark.slow(35)
@pytest.mark.behaviour("SG-02")
def test_task_that_cannot_be_woken(
    guest: Machine, livepatch: Livepatch, tasks: Tasks, gate: Gates, kernel_log: KernelLog
) -> None:
    """A task that sleeps uninterruptibly is signalled again, and its call ends as it should.

    Its stack is too deep to be checked, so it holds any transition. A kernel thread shows when the
    second signals are sent.
    """
    livepatch.load_target(DEEP, depth=TOO_DEEP)
    gate.close(PLAIN)
    reader = guest.spawn("cat", "/sys/kernel/klp_deep/sleep")
    gate[PLAIN].await_task(reader.pid)
    patch = _loaded_with_naps(livepatch, naps=2)
    kernel_log.wait_for("nap 2 ended", guest.scaled(90))
    tasks.wait_all(PatchState.PATCHED, held_by=tasks.get(reader.pid))
    assert gate.waiting(PLAIN) == [reader.pid]
    gate.open(PLAIN)
    assert int(reader.next_line(guest.scaled(QUICK_S))) == TOO_DEEP
    patch.wait_complete()


def _loaded_with_naps(livepatch: Livepatch, *, naps: int) -> Patch:
    livepatch.load_target(NAP, naps=naps)
    return livepatch.load("klp_test_symbol", object=NAP, function=NAP)


def _blocked_by_naps(livepatch: Livepatch, tasks: Tasks, *, naps: int) -> None:
    patch = _loaded_with_naps(livepatch, naps=naps)
    (thread,) = tasks.find(NAP)
    tasks.wait_all(PatchState.PATCHED, held_by=thread)
    assert thread.kthread
    assert patch.blockers() == [Blocker(thread, in_function=NAP)]


def _said(kernel_log: KernelLog) -> list[str]:
    """Return the lines about signals and naps, without their prefixes."""
    records = kernel_log.matching(rf"{SIGNALLING}|{NAP}: nap \d+ ended")
    return [record.text.rpartition(": ")[2] for record in records]
