# SPDX-License-Identifier: GPL-2.0-only
"""A patch whose pre_patch refuses a coming target, and another patch of it."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest

from harness.errors import ModuleRefused
from harness.livepatch.callbacks import CallbackPhase
from harness.livepatch.gates import Gates
from harness.livepatch.kernel_log import KernelLog
from harness.livepatch.patch import Livepatch
from harness.livepatch.tasks import PatchState, Tasks

if TYPE_CHECKING:
    from tests.behaviours.conftest import Guestview

TARGET = "klp_target_mod"
VETO = "klp_test_callbacks_a"


@pytest.mark.behaviour("MO-03")
def test_second_patch_vetoes(livepatch: Livepatch, view: Guestview, kernel_log: KernelLog) -> None:
    """The second patch refuses the coming module: the first is rolled back; a retry loads."""
    first = livepatch.load("klp_test_target_fg", wait=True)
    livepatch.load(VETO, wait=True, pre_patch_ret_target=-errno.ENODEV)
    kernel_log.mark()
    with pytest.raises(ModuleRefused) as refused:
        livepatch.load_target(TARGET)
    assert refused.value.errno == errno.ENODEV
    assert view.shows_patched(first.object(TARGET), patched=False)
    undone = [event.phase for event in kernel_log.callbacks() if event.patch == first.name]
    assert undone[-1] is CallbackPhase.POST_UNPATCH
    livepatch.guest.write(f"/sys/module/{VETO}/parameters/pre_patch_ret_target", "0")
    livepatch.load_target(TARGET)
    assert (view.target("f"), view.target("g")) == (first.name, first.name)
    assert view.shows_patched(first.object(TARGET), patched=True)


@pytest.mark.behaviour("MO-04")
def test_veto_during_a_blocked_transition(
    livepatch: Livepatch, tasks: Tasks, gate: Gates, kernel_log: KernelLog
) -> None:
    """No callback runs for a module that was refused during a transition, when that ends.

    The kernel must forget the module that was refused, whose memory is freed (4ff96fb5). A sleeper
    in the body of a patch that is being replaced holds the transition.
    """
    livepatch.load("klp_test_gate", wait=True)
    sleeper = gate.enter()
    kernel_log.mark()
    veto = livepatch.load(VETO, replace=True, pre_patch_ret_target=-errno.ENODEV)
    tasks.wait_all(PatchState.PATCHED, held_by=sleeper)
    with pytest.raises(ModuleRefused) as refused:
        livepatch.load_target(TARGET)
    assert refused.value.errno == errno.ENODEV
    assert veto.in_transition
    sleeper.release()
    veto.wait_complete()
    veto.disable()
    veto.wait_gone()
    assert [(event.phase, event.object) for event in kernel_log.callbacks()] == [
        (CallbackPhase.PRE_PATCH, "vmlinux"),
        (CallbackPhase.PRE_PATCH, TARGET),
        (CallbackPhase.POST_PATCH, "vmlinux"),
        (CallbackPhase.PRE_UNPATCH, "vmlinux"),
        (CallbackPhase.POST_UNPATCH, "vmlinux"),
    ]
