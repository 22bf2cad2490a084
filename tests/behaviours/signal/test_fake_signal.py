# SPDX-License-Identifier: GPL-2.0-only
"""The fake signal: what the kernel sends to those that hold a transition up for long."""

from __future__ import annotations

import pytest

from harness.livepatch.gates import Body, Gates
from harness.livepatch.kernel_log import KernelLog
from harness.livepatch.patch import Livepatch
from harness.livepatch.tasks import PatchState, Tasks

INTERRUPTIBLE = 3
UNINTERRUPTIBLE = 0


@pytest.mark.slow
@pytest.mark.behaviour("SG-01")
def test_interruptible_sleeper_is_signalled(
    livepatch: Livepatch, tasks: Tasks, gate: Gates, kernel_log: KernelLog
) -> None:
    """After about 15 retries the sleeper leaves f and switches; its call restarts, unnoticed.

    The program sees no signal: its read(2) goes on in the new body and ends with its text.
    """
    sleeper = gate.enter(INTERRUPTIBLE)
    patch = livepatch.load("klp_test_gate")
    tasks.wait_all(PatchState.PATCHED, held_by=sleeper)
    assert not kernel_log.matching("signaling remaining tasks")
    patch.wait_complete()
    assert kernel_log.matching("signaling remaining tasks")
    gate[INTERRUPTIBLE].await_task(sleeper.tid)
    left = sleeper.release()
    assert (left.body, left.errno) == (Body.PATCHED, 0)


@pytest.mark.slow
@pytest.mark.behaviour("SG-01")
def test_each_transition_counts_its_own_rounds(
    livepatch: Livepatch, gate: Gates, kernel_log: KernelLog
) -> None:
    """The sleeper that the enable had signalled is signalled by the disable as well."""
    sleeper = gate.enter(INTERRUPTIBLE)
    patch = livepatch.load("klp_test_gate", wait=True)
    assert kernel_log.matching("signaling remaining tasks")
    gate[INTERRUPTIBLE].await_task(sleeper.tid)
    kernel_log.mark()
    patch.disable()
    patch.wait_gone()
    assert kernel_log.matching("signaling remaining tasks")


@pytest.mark.behaviour("SG-04")
def test_no_signal_attribute(livepatch: Livepatch) -> None:
    """The old attribute ``signal`` is gone from sysfs (0b3d5279)."""
    patch = livepatch.load("klp_test_cmdline_a", wait=True)
    assert not patch.has("signal")
    assert patch.has("force")
