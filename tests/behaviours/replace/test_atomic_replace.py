# SPDX-License-Identifier: GPL-2.0-only
"""Atomic replace: a patch with ``replace`` replaces all others (e1452b60)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from harness.livepatch.callbacks import CallbackPhase
from harness.livepatch.gates import Gates
from harness.livepatch.kernel_log import KernelLog
from harness.livepatch.patch import Livepatch, PatchedFunction
from harness.livepatch.tasks import PatchState, Tasks

if TYPE_CHECKING:
    from harness.vm.guest.machine import Machine
    from tests.behaviours.conftest import Guestview

TARGET, TWINS = "klp_target_mod", "klp_target_twins"


@pytest.mark.behaviour("RP-01")
def test_replaced_patch_vanishes(livepatch: Livepatch, view: Guestview) -> None:
    """The replaced patch leaves sysfs, its bodies do not run, and its module can be unloaded."""
    old = livepatch.load("klp_test_cmdline_a", wait=True)
    assert view.cmdline() == old.name
    new = livepatch.load("klp_test_cmdline_b", wait=True, replace=True)
    old.wait_gone()
    assert view.cmdline() == new.name
    assert [patch.name for patch in livepatch.patches()] == [new.name]
    old.unload()
    assert old.name not in view.modules()
    new.disable()
    new.unload()
    assert view.cmdline() == "original"


@pytest.mark.behaviour("RP-02")
def test_function_of_the_old_patch_only(livepatch: Livepatch, view: Guestview) -> None:
    """The original of a function that only the old patch had runs, and its hook is removed."""
    livepatch.load_target("klp_target_mod")
    old = livepatch.load("klp_test_target_fg", wait=True)
    assert (view.target("f"), view.target("g")) == (old.name, old.name)
    assert "klp_target_g" in view.enabled_functions()
    new = livepatch.load("klp_test_target_f", wait=True, replace=True)
    old.wait_gone()
    assert (view.target("f"), view.target("g")) == (new.name, "original")
    hooked = view.enabled_functions()
    assert "klp_target_f" in hooked
    assert "klp_target_g" not in hooked


@pytest.mark.behaviour("RP-02")
@pytest.mark.behaviour("RP-03")
@pytest.mark.parametrize("shared", ["first", "last"])
def test_function_beside_one_of_both(
    livepatch: Livepatch, view: Guestview, tasks: Tasks, gate: Gates, shared: str
) -> None:
    """The old patch has two functions of an object, the new one has one of them.

    The other one gets a nop, wherever it stands in the old patch, and the nop is gone afterwards.
    A sleeper in a function that only another old patch had holds the transition.
    """
    first, last = ("klp_target_f", "klp_target_g")[:: 1 if shared == "first" else -1]
    both: dict[str, Any] = {"function2": first, "function": last}
    livepatch.load_target(TARGET)
    old = livepatch.load("klp_test_symbol", wait=True, object=TARGET, **both)
    assert (view.target("f"), view.target("g")) == (old.name, old.name)
    livepatch.load("klp_test_gate", wait=True)
    sleeper = gate.enter()
    new = livepatch.load("klp_test_target_f", replace=True)
    tasks.wait_all(PatchState.PATCHED, held_by=sleeper)
    assert {each.name for each in new.object(TARGET).functions()} == {first, last}
    sleeper.release()
    new.wait_complete()
    old.wait_gone()
    assert (view.target("f"), view.target("g")) == (new.name, "original")
    assert new.object(TARGET).functions() == (PatchedFunction(name="klp_target_f", sympos=1),)


@pytest.mark.behaviour("RP-02")
@pytest.mark.parametrize("swapped", [False, True], ids=["kernel-first", "module-first"])
def test_patch_of_other_objects(
    guest: Machine, livepatch: Livepatch, view: Guestview, swapped: bool
) -> None:
    """A patch of the kernel and of a module replaces one of another module, and frees that."""
    livepatch.load_target(TARGET)
    livepatch.load_target(TWINS)
    names: dict[str, Any] = {"object": TWINS, "function": "klp_twin", "sympos": 1}
    old = livepatch.load("klp_test_symbol", wait=True, **names)
    new = livepatch.load("klp_test_two_objects", wait=True, replace=True, swapped=swapped)
    old.wait_gone()
    assert (view.cmdline(), view.target("f")) == (new.name, new.name)
    assert guest.read("/sys/kernel/klp_twins/first") == "first\n"
    assert "klp_twin" not in view.enabled_functions()


@pytest.mark.behaviour("RP-06")
def test_unpatch_callbacks_of_the_replaced(livepatch: Livepatch, kernel_log: KernelLog) -> None:
    """The replaced patch's unpatch callbacks do not run; the new one's patch callbacks do."""
    livepatch.load_target("klp_target_mod")
    old = livepatch.load("klp_test_callbacks_a", wait=True)
    kernel_log.mark()
    new = livepatch.load("klp_test_callbacks_b", wait=True, replace=True)
    old.wait_gone()
    old.unload()
    events = [(event.patch, event.phase, event.object) for event in kernel_log.callbacks()]
    assert events == [
        (new.name, CallbackPhase.PRE_PATCH, "vmlinux"),
        (new.name, CallbackPhase.PRE_PATCH, "klp_target_mod"),
        (new.name, CallbackPhase.POST_PATCH, "vmlinux"),
        (new.name, CallbackPhase.POST_PATCH, "klp_target_mod"),
    ]
