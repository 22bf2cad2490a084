# SPDX-License-Identifier: GPL-2.0-only
"""A running transition is reversed when the opposite value is written (d83a7cb3)."""

from __future__ import annotations

import pytest

from harness.livepatch.gates import Body, Gates
from harness.livepatch.kernel_log import KernelLog
from harness.livepatch.patch import Livepatch
from harness.livepatch.tasks import PatchState, Tasks

DYNAMIC_DEBUG = "/sys/kernel/debug/dynamic_debug/control"


@pytest.mark.behaviour("TR-11")
def test_reverse_of_a_blocked_enable(livepatch: Livepatch, tasks: Tasks, gate: Gates) -> None:
    """Writing 0 to ``enabled`` during an enable reverses it: all tasks switch back.

    The sleeper that held it is in the old body, so that the reversed transition ends although the
    sleeper stays there.
    """
    sleeper = gate.enter()
    patch = livepatch.load("klp_test_gate")
    tasks.wait_all(PatchState.PATCHED, held_by=sleeper)
    patch.reverse()
    patch.wait_gone()
    assert tasks.states() == {PatchState.UNDEFINED}
    assert gate.waiting() == [sleeper.tid]
    assert sleeper.release().body is Body.ORIGINAL
    assert gate.call().body is Body.ORIGINAL
    patch.unload()


@pytest.mark.behaviour("TR-11")
def test_reverse_of_a_blocked_disable(livepatch: Livepatch, tasks: Tasks, gate: Gates) -> None:
    """Writing 1 to ``enabled`` during a disable reverses it: the patch stays enabled."""
    patch = livepatch.load("klp_test_gate", wait=True)
    sleeper = gate.enter()
    patch.disable(wait=False)
    tasks.wait_all(PatchState.UNPATCHED, held_by=sleeper)
    patch.reverse()
    patch.wait_complete()
    assert patch.enabled
    assert tasks.states() == {PatchState.UNDEFINED}
    assert sleeper.release().body is Body.PATCHED
    assert gate.call().body is Body.PATCHED


@pytest.mark.behaviour("TR-11")
def test_reversed_twice(
    livepatch: Livepatch, tasks: Tasks, gate: Gates, kernel_log: KernelLog
) -> None:
    """A transition that is reversed twice ends as it was started; the log says the directions."""
    livepatch.guest.write(DYNAMIC_DEBUG, "file kernel/livepatch/transition.c +p\n")
    blocker = gate.enter(0)
    patch = livepatch.load("klp_test_gate")
    tasks.wait_all(PatchState.PATCHED, held_by=blocker)
    other = gate.enter(1)
    patch.reverse()
    tasks.wait_all(PatchState.UNPATCHED, held_by=other)
    patch.reverse()
    tasks.wait_all(PatchState.PATCHED, held_by=blocker)
    assert blocker.release().body is Body.ORIGINAL
    assert other.release().body is Body.PATCHED
    patch.wait_complete()
    said = "reversing transition from "
    ways = [record.text.partition(said)[2].strip() for record in kernel_log.matching(said)]
    assert ways == ["patching to unpatching", "unpatching to patching"]
    assert patch.enabled
