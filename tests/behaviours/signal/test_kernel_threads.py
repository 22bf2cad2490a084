# SPDX-License-Identifier: GPL-2.0-only
"""The fake signal for kernel threads, which are woken instead, repeatedly."""

from __future__ import annotations

import pytest

from harness.deadline import Deadline
from harness.livepatch.blockers import Blocker
from harness.livepatch.kernel_log import KernelLog
from harness.livepatch.patch import Livepatch
from harness.livepatch.tasks import PatchState, Tasks

NAP = "klp_target_nap"
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


def _blocked_by_naps(livepatch: Livepatch, tasks: Tasks, *, naps: int) -> None:
    livepatch.load_target(NAP, naps=naps)
    (thread,) = tasks.find(NAP)
    patch = livepatch.load("klp_test_symbol", object=NAP, function=NAP)
    tasks.wait_all(PatchState.PATCHED, held_by=thread)
    assert thread.kthread
    assert patch.blockers() == [Blocker(thread, in_function=NAP)]


def _said(kernel_log: KernelLog) -> list[str]:
    """Return the lines about signals and naps, without their prefixes."""
    records = kernel_log.matching(rf"{SIGNALLING}|{NAP}: nap \d+ ended")
    return [record.text.rpartition(": ")[2] for record in records]
