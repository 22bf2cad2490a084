# SPDX-License-Identifier: GPL-2.0-only
"""Callbacks that convert all data at once: the TRANSFORM_WORLD of models-2014."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.livepatch.gates import Gates
from harness.livepatch.patch import Livepatch
from harness.livepatch.tasks import PatchState, Tasks
from harness.livepatch.waiting import QUICK_S, scaled

if TYPE_CHECKING:
    from harness.livepatch.kernel_log import KernelLog
    from tests.behaviours.conftest import Store

PATCH = "klp_test_transform_world"


@pytest.mark.behaviour("CB-12")
def test_all_data_there_and_back(
    livepatch: Livepatch, tasks: Tasks, gate: Gates, store: Store
) -> None:
    """All data have the old format until no task is in an old body, and the new one then.

    A sleeper in an old body reads the data after all other tasks have switched. On disable they are
    converted before a task can be in an old body again.
    """
    guest = livepatch.guest
    store.add(1500, 2750)
    assert (store.stored(), store.items()) == ([1, 2], [1000, 2000])
    gate.close(0)
    old_body = guest.spawn("cat", store.path("sum"))
    gate[0].await_task(old_body.pid)
    patch = livepatch.load(PATCH)
    tasks.wait_all(PatchState.PATCHED, held_by=tasks.get(old_body.pid))
    store.add(3100)
    assert store.stored() == [1, 2, 3], "an old body would misread what a new one has stored"
    gate.open(0)
    assert old_body.next_line(scaled(guest, QUICK_S)) == "6000"
    patch.wait_complete()
    assert store.stored() == [1000, 2000, 3000], "post_patch has converted all"
    store.add(4200)
    assert store.items() == [1000, 2000, 3000, 4200]
    gate.close(0)
    new_body = guest.spawn("cat", store.path("sum"))
    gate[0].await_task(new_body.pid)
    patch.disable(wait=False)
    tasks.wait_all(PatchState.UNPATCHED, held_by=tasks.get(new_body.pid))
    assert store.stored() == [1, 2, 3, 4], "pre_unpatch has converted all back"
    store.add(5900)
    gate.open(0)
    assert new_body.next_line(scaled(guest, QUICK_S)) == "15000"
    patch.unload()
    assert store.stored() == [1, 2, 3, 4, 5]
    assert store.items() == [1000, 2000, 3000, 4000, 5000]


@pytest.mark.behaviour("CB-12")
def test_nothing_to_undo_after_a_reversal(
    livepatch: Livepatch, tasks: Tasks, gate: Gates, store: Store
) -> None:
    """A reversed enable has converted nothing, and converts nothing back."""
    guest = livepatch.guest
    store.add(1500)
    gate.close(0)
    reader = guest.spawn("cat", store.path("sum"))
    gate[0].await_task(reader.pid)
    patch = livepatch.load(PATCH)
    tasks.wait_all(PatchState.PATCHED, held_by=tasks.get(reader.pid))
    patch.reverse()
    patch.unload()
    assert (store.stored(), store.items()) == ([1], [1000])
    gate.open(0)
    assert reader.next_line(scaled(guest, QUICK_S)) == "1000"


@pytest.mark.behaviour("CB-12")
def test_a_conversion_that_fails_changes_nothing(
    livepatch: Livepatch, store: Store, kernel_log: KernelLog
) -> None:
    """Of three items the second cannot be converted: all keep the old format, and none is lost.

    The patch stays enabled, and its functions handle the old format; there is nothing to convert
    back. The next time nothing fails, and all are converted.
    """
    store.add(1500, 2750, 3100)
    patch = livepatch.load(PATCH, wait=True, fail_at=2)
    assert kernel_log.matching("item 2 cannot be converted: all keep the old format")
    assert (store.stored(), store.items()) == ([1, 2, 3], [1000, 2000, 3000])
    store.add(4200)
    assert (store.stored(), store.items()) == ([1, 2, 3, 4], [1000, 2000, 3000, 4000])
    patch.disable()
    patch.unload()
    assert (store.stored(), store.items()) == ([1, 2, 3, 4], [1000, 2000, 3000, 4000])
    livepatch.load(PATCH, wait=True)
    assert store.stored() == [1000, 2000, 3000, 4000]


@pytest.mark.behaviour("CB-12")
def test_a_disable_that_is_reversed_converts_again(
    livepatch: Livepatch, tasks: Tasks, gate: Gates, store: Store
) -> None:
    """Data that pre_unpatch has converted back are converted by post_patch when it turns round."""
    guest = livepatch.guest
    store.add(1500)
    patch = livepatch.load(PATCH, wait=True)
    assert store.stored() == [1000]
    gate.close(0)
    new_body = guest.spawn("cat", store.path("sum"))
    gate[0].await_task(new_body.pid)
    patch.disable(wait=False)
    tasks.wait_all(PatchState.UNPATCHED, held_by=tasks.get(new_body.pid))
    assert store.stored() == [1]
    patch.reverse()
    patch.wait_complete()
    assert (patch.enabled, store.stored()) == (True, [1000])
    gate.open(0)
    assert new_body.next_line(scaled(guest, QUICK_S)) == "1000"
