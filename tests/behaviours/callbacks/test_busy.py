# SPDX-License-Identifier: GPL-2.0-only
"""Callbacks of a transition that a busy target holds."""

from __future__ import annotations

import pytest

from harness.livepatch.callbacks import CallbackPhase
from harness.livepatch.kernel_log import KernelLog
from harness.livepatch.patch import Livepatch
from harness.livepatch.tasks import PatchState, Tasks

PATCH = "klp_test_busy"
TARGET = "klp_target_mod"


@pytest.mark.behaviour("CB-09")
def test_busy_target_and_reverse(livepatch: Livepatch, tasks: Tasks, kernel_log: KernelLog) -> None:
    """post_patch waits for a busy target; on a reverse post_unpatch runs, and no pre_unpatch."""
    livepatch.load_target(TARGET, busy=1)
    patch = livepatch.load(PATCH)
    (thread,) = tasks.find("klp_target_busy")
    tasks.wait_all(PatchState.PATCHED, held_by=thread)
    blocked = [(event.phase, event.object) for event in kernel_log.callbacks()]
    assert blocked == [
        (CallbackPhase.PRE_PATCH, "vmlinux"),
        (CallbackPhase.PRE_PATCH, TARGET),
    ]
    kernel_log.mark()
    patch.reverse()
    patch.wait_gone()
    reversed_ = [(event.phase, event.object) for event in kernel_log.callbacks()]
    assert reversed_ == [
        (CallbackPhase.POST_UNPATCH, "vmlinux"),
        (CallbackPhase.POST_UNPATCH, TARGET),
    ]
