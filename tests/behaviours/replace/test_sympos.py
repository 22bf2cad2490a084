# SPDX-License-Identifier: GPL-2.0-only
"""An atomic replace of a patch that names the same function with another sympos."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from harness.livepatch.gates import Gates
from harness.livepatch.patch import Livepatch, PatchedFunction
from harness.livepatch.tasks import PatchState, Tasks

if TYPE_CHECKING:
    from harness.vm.guest.machine import Machine
    from tests.behaviours.conftest import Guestview

TARGET = "klp_target_mod"
TWINS, TWIN, ABSENT = "klp_target_twins", "klp_twin", "klp_absent"
BY_ONE: tuple[str, dict[str, Any]] = (
    "klp_test_symbol",
    {"object": TARGET, "function": "klp_target_f", "sympos": 1},
)
BY_ZERO: tuple[str, dict[str, Any]] = ("klp_test_target_f", {})


@pytest.mark.behaviour("RP-11")
@pytest.mark.parametrize(
    ("old", "new"), [(BY_ZERO, BY_ONE), (BY_ONE, BY_ZERO)], ids=["0-then-1", "1-then-0"]
)
def test_sympos_zero_and_one_are_the_same(
    livepatch: Livepatch,
    view: Guestview,
    tasks: Tasks,
    gate: Gates,
    old: tuple[str, dict[str, Any]],
    new: tuple[str, dict[str, Any]],
) -> None:
    """sympos 0 and 1 name the same function, so that the new patch needs no nop (139560e8).

    A sleeper in a function that only another old patch had holds the transition.
    """
    livepatch.load_target(TARGET)
    gates = livepatch.load("klp_test_gate", wait=True)
    replaced = livepatch.load(old[0], wait=True, **old[1])
    sleeper = gate.enter()
    patch = livepatch.load(new[0], replace=True, **new[1])
    tasks.wait_all(PatchState.PATCHED, held_by=sleeper)
    assert patch.in_transition
    assert patch.object(TARGET).functions() == (PatchedFunction(name="klp_target_f", sympos=1),)
    assert _body(view) == patch.name
    sleeper.release()
    patch.wait_complete()
    for gone in (gates, replaced):
        gone.unload()
    assert _body(view) == patch.name
    assert [item.name for item in livepatch.patches()] == [patch.name]


@pytest.mark.behaviour("RP-17")
@pytest.mark.parametrize(
    ("old", "new", "target"),
    [(1, 2, TWINS), (2, 1, TWINS), (0, 2, ABSENT), (2, 0, ABSENT)],
    ids=["1-then-2", "2-then-1", "0-then-2", "2-then-0"],
)
def test_other_position_gets_a_nop(
    guest: Machine,
    livepatch: Livepatch,
    tasks: Tasks,
    gate: Gates,
    old: int,
    new: int,
    target: str,
) -> None:
    """The new patch lists a nop for the function of the old one beside its own.

    What a target has is not known before it is loaded: then 0 and 2 can both be asked for.
    """
    if target == TWINS:
        livepatch.load_target(TWINS)
    livepatch.load("klp_test_gate", wait=True)
    livepatch.load("klp_test_symbol", wait=True, object=target, function=TWIN, sympos=old)
    sleeper = gate.enter()
    patch = livepatch.load(
        "klp_test_other_symbol", replace=True, object=target, function=TWIN, sympos=new
    )
    tasks.wait_all(PatchState.PATCHED, held_by=sleeper)
    assert set(patch.object(target).functions()) == {
        PatchedFunction(name=TWIN, sympos=position or 1) for position in (old, new)
    }
    sleeper.release()
    patch.wait_complete()
    if target == TWINS:
        assert _twins(guest) == (("first", patch.name) if new == 2 else (patch.name, "second"))


@pytest.mark.behaviour("RP-17")
def test_nop_of_the_second_function(guest: Machine, livepatch: Livepatch) -> None:
    """The old patch has the second of two functions of a name: that one gets the nop."""
    livepatch.load_target(TWINS)
    old = livepatch.load("klp_test_symbol", wait=True, object=TWINS, function=TWIN, sympos=2)
    assert _twins(guest) == ("first", old.name)
    livepatch.load("klp_test_cmdline_a", wait=True, replace=True)
    old.unload()
    assert _twins(guest) == ("first", "second")


def _twins(guest: Machine) -> tuple[str, str]:
    first, second = (
        guest.read(f"/sys/kernel/klp_twins/{name}").strip() for name in ("first", "second")
    )
    return first, second


def _body(view: Guestview) -> str:
    return view.target("f")
