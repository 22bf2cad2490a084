# SPDX-License-Identifier: GPL-2.0-only
"""An atomic replace whose transition a task holds: nops, reverse, old patches (e1452b60)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.agent_protocol import Op
from harness.livepatch.gates import Body, Gates
from harness.livepatch.patch import Livepatch, Patch
from harness.livepatch.tasks import PatchState, Tasks
from harness.livepatch.waiting import QUICK_S, poll, scaled

if TYPE_CHECKING:
    from harness.livepatch.gates import GateTask
    from harness.vm.guest.machine import Machine
    from tests.behaviours.conftest import Guestview

TARGET = "klp_target_mod"


@pytest.mark.behaviour("RP-03")
def test_nops_appear_and_go(
    guest: Machine, livepatch: Livepatch, tasks: Tasks, gate: Gates
) -> None:
    """During the transition the new patch has nops in sysfs; afterwards they are removed.

    At once, or seconds later on a kernel with DEBUG_KOBJECT_RELEASE (lib/kobject.c).
    """
    livepatch.load_target(TARGET)
    livepatch.load("klp_test_target_fg", wait=True)
    new, sleeper = _blocked_replace(livepatch, tasks, gate)
    nops = {function.name for function in new.object(TARGET).functions()}
    assert nops == {"klp_target_f", "klp_target_g"}
    sleeper.release()
    new.wait_complete()
    of_target = f"{new.path}/{TARGET}"
    assert poll(guest, of_target, Op.ABSENT, deadline=scaled(guest, QUICK_S)), new.objects()


@pytest.mark.behaviour("RP-04")
def test_sleeper_in_the_old_patch_only(livepatch: Livepatch, tasks: Tasks, gate: Gates) -> None:
    """A task that sleeps in a function that only the old patch had holds the transition."""
    old = livepatch.load("klp_test_gate", wait=True)
    sleeper = gate.enter()
    new = livepatch.load("klp_test_cmdline_a", replace=True)
    tasks.wait_all(PatchState.PATCHED, held_by=sleeper)
    assert new.in_transition
    assert old.exists
    assert sleeper.release().body is Body.PATCHED
    new.wait_complete()
    old.wait_gone()
    assert gate.call().body is Body.ORIGINAL


@pytest.mark.behaviour("RP-05")
def test_nop_runs_the_original(
    livepatch: Livepatch, tasks: Tasks, gate: Gates, view: Guestview
) -> None:
    """A call of a function with a nop runs the original during the transition, and after."""
    livepatch.load_target(TARGET)
    old = livepatch.load("klp_test_target_fg", wait=True)
    assert view.target("f") == old.name
    new, sleeper = _blocked_replace(livepatch, tasks, gate)
    assert (view.target("f"), view.target("g")) == ("original", "original")
    assert new.in_transition
    sleeper.release()
    new.wait_complete()
    assert (view.target("f"), view.target("g")) == ("original", "original")


@pytest.mark.behaviour("RP-05")
def test_target_goes_during_the_replace(
    livepatch: Livepatch, tasks: Tasks, gate: Gates, view: Guestview
) -> None:
    """A target with nops alone is unloaded and loaded again during the transition.

    It comes with the nops again, and its functions run the original.
    """
    target = livepatch.load_target(TARGET)
    livepatch.load("klp_test_target_fg", wait=True)
    new, sleeper = _blocked_replace(livepatch, tasks, gate)
    for _ in range(2):
        target.unload()
        assert view.shows_patched(new.object(TARGET), patched=False)
        target = livepatch.load_target(TARGET)
        assert view.shows_patched(new.object(TARGET), patched=True)
        assert (view.target("f"), view.target("g")) == ("original", "original")
    assert new.in_transition
    sleeper.release()
    new.wait_complete()
    assert (view.target("f"), view.target("g")) == ("original", "original")
    assert [patch.name for patch in livepatch.patches()] == [new.name]


@pytest.mark.slow(10)
@pytest.mark.behaviour("RP-08")
def test_reversed_replace_keeps_the_old(
    livepatch: Livepatch, tasks: Tasks, gate: Gates, view: Guestview
) -> None:
    """After the reverse of a replace the old patches are enabled, and their bodies run."""
    livepatch.load_target(TARGET)
    old = [livepatch.load(name, wait=True) for name in ("klp_test_target_fg", "klp_test_cmdline_a")]
    new, sleeper = _blocked_replace(livepatch, tasks, gate)
    assert view.target("f") == "original"
    new.reverse()
    new.wait_gone()
    assert [patch.enabled for patch in old] == [True, True]
    assert view.target("f") == "klp_test_target_fg"
    assert view.cmdline() == "klp_test_cmdline_a"
    sleeper.release()
    new.unload()
    for patch in reversed(old):
        patch.disable()
        patch.unload()
    assert (view.target("f"), view.cmdline()) == ("original", "original")


def _blocked_replace(livepatch: Livepatch, tasks: Tasks, gate: Gates) -> tuple[Patch, GateTask]:
    """Load an atomic replace that a sleeper holds, and wait until all other tasks have switched."""
    sleeper = gate.enter()
    patch = livepatch.load("klp_test_gate", replace=True)
    tasks.wait_all(PatchState.PATCHED, held_by=sleeper)
    return patch, sleeper
