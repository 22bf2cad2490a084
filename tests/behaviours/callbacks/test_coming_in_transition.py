# SPDX-License-Identifier: GPL-2.0-only
"""Callbacks for a target that is loaded while its patch is in transition."""

from __future__ import annotations

import pytest

from harness.livepatch.callbacks import CallbackPhase
from harness.livepatch.gates import Gates
from harness.livepatch.kernel_log import KernelLog
from harness.livepatch.patch import Livepatch
from harness.livepatch.tasks import PatchState, Tasks

TARGET = "klp_target_mod"


@pytest.mark.behaviour("CB-02")
def test_target_that_comes_during_a_transition(
    livepatch: Livepatch, tasks: Tasks, gate: Gates, kernel_log: KernelLog
) -> None:
    """pre_patch runs before the target's init, post_patch not before the transition has ended.

    A sleeper in the body of a patch that is being replaced holds the transition.
    """
    livepatch.load("klp_test_gate", wait=True)
    sleeper = gate.enter()
    kernel_log.mark()
    patch = livepatch.load("klp_test_callbacks_a", replace=True)
    tasks.wait_all(PatchState.PATCHED, held_by=sleeper)
    livepatch.load_target(TARGET)
    before = [(CallbackPhase.PRE_PATCH, "vmlinux"), (CallbackPhase.PRE_PATCH, TARGET)]
    assert [(event.phase, event.object) for event in kernel_log.callbacks()] == before
    assert patch.in_transition
    sleeper.release()
    patch.wait_complete()
    assert [(event.phase, event.object) for event in kernel_log.callbacks()] == [
        *before,
        (CallbackPhase.POST_PATCH, "vmlinux"),
        (CallbackPhase.POST_PATCH, TARGET),
    ]
