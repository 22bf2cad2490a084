# SPDX-License-Identifier: GPL-2.0-only
"""Data that are converted when they are used, in shadow variables that outlive a patch.

The TRANSFORM_ON_ACCESS of models-2014. The new format of an item is its shadow variable
(livepatch-modules/klp_access_patch.inc.c).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.livepatch.gates import Gates
from harness.livepatch.patch import Livepatch, Patch
from harness.livepatch.tasks import PatchState, Tasks
from harness.livepatch.waiting import QUICK_S, scaled

if TYPE_CHECKING:
    from tests.behaviours.conftest import Store

ONE, TWO = "klp_test_transform_access_1", "klp_test_transform_access_2"


def _counts(patch: Patch) -> tuple[int, int]:
    """Return how many items the patch has converted, and how many it has converted back."""
    return int(patch.module.parameter("converted")), int(patch.module.parameter("reverted"))


@pytest.mark.behaviour("SV-05")
def test_converted_when_used(livepatch: Livepatch, tasks: Tasks, gate: Gates, store: Store) -> None:
    """New bodies handle old and new data, and convert none before the transition's end.

    post_patch flips the switch. An item is converted when it is next used, and back when the patch
    is disabled, if it was converted.
    """
    guest = livepatch.guest
    store.add(1500)
    gate.close(0)
    old_body = guest.spawn("cat", store.path("sum"))
    gate[0].await_task(old_body.pid)
    patch = livepatch.load(ONE)
    tasks.wait_all(PatchState.PATCHED, held_by=tasks.get(old_body.pid))
    store.add(2750)
    assert store.items() == [1000, 2000]
    assert _counts(patch) == (0, 0), "an old body could not read what has been converted"
    gate.open(0)
    assert old_body.next_line(scaled(guest, QUICK_S)) == "3000"
    patch.wait_complete()
    assert _counts(patch) == (0, 0), "nothing has been used yet"
    store.add(3100)
    assert _counts(patch) == (1, 0), "only what was used is converted"
    assert store.stored() == [1, 2, 0], "the new format is in the shadow variable"
    assert store.items() == [1000, 2000, 3100]
    assert store.items() == [1000, 2000, 3100]
    assert _counts(patch) == (3, 0), "each item is converted once"
    patch.disable()
    assert _counts(patch) == (3, 3)
    patch.unload()
    assert store.stored() == [1, 2, 3]
    assert store.items() == [1000, 2000, 3000]


@pytest.mark.behaviour("SV-05")
def test_items_that_go_take_their_shadow_along(livepatch: Livepatch, store: Store) -> None:
    """What was converted and then removed is not there to be converted back."""
    patch = livepatch.load(ONE, wait=True)
    store.add(1500, 2500)
    assert _counts(patch) == (2, 0)
    livepatch.guest.write(store.path("clear"), "1")
    store.add(3500)
    patch.disable()
    assert _counts(patch) == (3, 1)
    assert store.stored() == [3]


@pytest.mark.behaviour("SV-04")
def test_shadow_data_survive_a_replace(livepatch: Livepatch, store: Store) -> None:
    """What a replaced patch kept in shadow variables is there for the patch that replaced it.

    The second patch converts nothing: each millisecond that it tells comes from the first one,
    whose module is gone by then. Disabling it converts back what the first one converted.
    """
    first = livepatch.load(ONE, wait=True)
    store.add(1500, 2750)
    assert _counts(first) == (2, 0)
    second = livepatch.load(TWO, wait=True, replace=True, convert=False)
    first.wait_gone()
    assert _counts(first) == (2, 0), "a callback of the replaced patch has run"
    first.unload()
    store.add(3100)
    assert store.items() == [1500, 2750, 3000]
    assert _counts(second) == (0, 0)
    second.disable()
    assert _counts(second) == (0, 2)
    second.unload()
    assert store.stored() == [1, 2, 3]
