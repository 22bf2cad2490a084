# SPDX-License-Identifier: GPL-2.0-only
"""Callbacks of a transition that a sleeper holds, and of two patches."""

from __future__ import annotations

import pytest

from harness.livepatch.callbacks import CallbackPhase
from harness.livepatch.gates import Gates
from harness.livepatch.kernel_log import KernelLog
from harness.livepatch.patch import Livepatch
from harness.livepatch.tasks import PatchState, Tasks

GATE_TARGET = "klp_target_gate"


def _seen(kernel_log: KernelLog) -> list[tuple[CallbackPhase, str]]:
    return [(event.phase, event.object) for event in kernel_log.callbacks()]


@pytest.mark.behaviour("CB-10")
def test_blocked_and_released(
    livepatch: Livepatch, tasks: Tasks, gate: Gates, kernel_log: KernelLog
) -> None:
    """Post-callbacks run when the transition ends, in the order of the objects, both ways."""
    sleeper = gate.enter()
    kernel_log.mark()
    patch = livepatch.load("klp_test_gate_callbacks")
    tasks.wait_all(PatchState.PATCHED, held_by=sleeper)
    before = [(CallbackPhase.PRE_PATCH, "vmlinux"), (CallbackPhase.PRE_PATCH, GATE_TARGET)]
    assert _seen(kernel_log) == before
    sleeper.release()
    patch.wait_complete()
    assert _seen(kernel_log) == [
        *before,
        (CallbackPhase.POST_PATCH, "vmlinux"),
        (CallbackPhase.POST_PATCH, GATE_TARGET),
    ]
    sleeper = gate.enter()
    kernel_log.mark()
    patch.disable(wait=False)
    tasks.wait_all(PatchState.UNPATCHED, held_by=sleeper)
    before = [(CallbackPhase.PRE_UNPATCH, "vmlinux"), (CallbackPhase.PRE_UNPATCH, GATE_TARGET)]
    assert _seen(kernel_log) == before
    sleeper.release()
    patch.wait_gone()
    assert _seen(kernel_log) == [
        *before,
        (CallbackPhase.POST_UNPATCH, "vmlinux"),
        (CallbackPhase.POST_UNPATCH, GATE_TARGET),
    ]


@pytest.mark.behaviour("CB-11")
def test_two_patches(livepatch: Livepatch, kernel_log: KernelLog) -> None:
    """With two patches, the callbacks of each run in its own transitions, and only then."""
    first = livepatch.load("klp_test_callbacks_a", wait=True)
    second = livepatch.load("klp_test_callbacks_b", wait=True)
    second.disable()
    second.wait_gone()
    first.disable()
    first.wait_gone()
    seen = [(event.patch, event.phase) for event in kernel_log.callbacks()]
    patching = [CallbackPhase.PRE_PATCH, CallbackPhase.POST_PATCH]
    unpatching = [CallbackPhase.PRE_UNPATCH, CallbackPhase.POST_UNPATCH]
    assert seen == [
        *((first.name, phase) for phase in patching),
        *((second.name, phase) for phase in patching),
        *((second.name, phase) for phase in unpatching),
        *((first.name, phase) for phase in unpatching),
    ]
