# SPDX-License-Identifier: GPL-2.0-only
"""The fake signal, which the kernel sends to tasks that hold a transition for long."""

from __future__ import annotations

import pytest

from harness.livepatch.gates import Body, Gates, How
from harness.livepatch.kernel_log import KernelLog
from harness.livepatch.patch import Livepatch
from harness.livepatch.tasks import PatchState, Tasks

INTERRUPTIBLE = 3
DYNAMIC_DEBUG = "/sys/kernel/debug/dynamic_debug/control"
# kernel/livepatch/transition.c: SIGNALS_TIMEOUT
RETRIES = 15


@pytest.mark.slow(18)
@pytest.mark.behaviour("SG-01")
@pytest.mark.parametrize("how", [How.READ, How.THREAD])
def test_interruptible_sleeper_is_signalled(
    livepatch: Livepatch, tasks: Tasks, gate: Gates, kernel_log: KernelLog, how: How
) -> None:
    """After about 15 tries the sleeper leaves the function and switches; its call restarts.

    The program sees no signal: its read(2) continues in the new body and returns its text. Those
    that have switched are left alone: a kernel thread sleeps on, and so does the first thread of
    the program whose second one is held.
    """
    livepatch.load_target("klp_target_nap")
    sleeper = gate.enter(INTERRUPTIBLE, how=how)
    patch = livepatch.load("klp_test_gate")
    tasks.wait_all(PatchState.PATCHED, held_by=sleeper)
    assert not kernel_log.matching("signaling remaining tasks")
    patch.wait_complete()
    assert kernel_log.matching("signaling remaining tasks")
    gate[INTERRUPTIBLE].await_task(sleeper.tid)
    left = sleeper.release()
    assert (left.body, left.errno) == (Body.PATCHED, 0)
    assert not kernel_log.matching("nap 1 ended")


@pytest.mark.slow(35)
@pytest.mark.needs("CONFIG_DYNAMIC_DEBUG")
@pytest.mark.behaviour("SG-01")
def test_each_transition_counts_its_own_rounds(
    livepatch: Livepatch, gate: Gates, kernel_log: KernelLog
) -> None:
    """A sleeper that was signalled by the enable is signalled by the disable, too.

    Each time after as many tries: the first, and 15 more, of which the last sends the signals.
    """
    livepatch.guest.write(DYNAMIC_DEBUG, "file kernel/livepatch/transition.c +p\n")
    sleeper = gate.enter(INTERRUPTIBLE)
    patch = livepatch.load("klp_test_gate", wait=True)
    assert tries_before_signals(kernel_log, sleeper.tid) == 1 + RETRIES
    gate[INTERRUPTIBLE].await_task(sleeper.tid)
    kernel_log.mark()
    patch.disable()
    patch.wait_gone()
    assert tries_before_signals(kernel_log, sleeper.tid) == 1 + RETRIES


def tries_before_signals(kernel_log: KernelLog, tid: int) -> int:
    """Return how often the log says that the task was not switched, before it was signalled."""
    (signals,) = kernel_log.matching("signaling remaining tasks")
    tries = kernel_log.matching(f":{tid} is sleeping on function")
    return sum(record.seq < signals.seq for record in tries)


@pytest.mark.behaviour("SG-04")
def test_no_signal_attribute(livepatch: Livepatch) -> None:
    """There is no attribute ``signal`` in sysfs any more (0b3d5279)."""
    patch = livepatch.load("klp_test_cmdline_a", wait=True)
    assert not patch.has("signal")
    assert patch.has("force")
