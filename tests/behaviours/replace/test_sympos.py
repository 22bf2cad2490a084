# SPDX-License-Identifier: GPL-2.0-only
"""An atomic replace of a patch that names the same function with another sympos."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from harness.livepatch.gates import Gates
from harness.livepatch.patch import Livepatch, PatchedFunction
from harness.livepatch.tasks import PatchState, Tasks

if TYPE_CHECKING:
    from tests.behaviours.conftest import Guestview

TARGET = "klp_target_mod"
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


def _body(view: Guestview) -> str:
    return view.target("f")
