# SPDX-License-Identifier: GPL-2.0-only
"""Which modules stay pinned after ``force`` (29573083, 68007289)."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest

from harness.errors import ModuleRefused
from harness.livepatch.gates import Gates
from harness.livepatch.patch import Livepatch, Patch
from harness.livepatch.tasks import PatchState, Tasks

if TYPE_CHECKING:
    from harness.livepatch.gates import GateTask


@pytest.mark.behaviour("FC-03")
def test_forced_enable_leaves_removable(livepatch: Livepatch, tasks: Tasks, gate: Gates) -> None:
    """After a forced enable that replaces nothing, a normal disable leaves the module removable."""
    patch, sleeper = _force_enable(livepatch, tasks, gate)
    sleeper.release()
    patch.disable()
    patch.unload()
    assert not livepatch.module(patch.name).loaded


@pytest.mark.behaviour("FC-04")
def test_replaced_under_force_stays(livepatch: Livepatch, tasks: Tasks, gate: Gates) -> None:
    """A patch that was replaced under force stays pinned; the replacing one does not."""
    old = livepatch.load("klp_test_cmdline_a", wait=True)
    new, sleeper = _force_enable(livepatch, tasks, gate, replace=True)
    old.wait_gone()
    pinned = livepatch.module(old.name)
    assert pinned.refcount == 1
    with pytest.raises(ModuleRefused) as refused:
        pinned.unload()
    assert refused.value.errno in {errno.EBUSY, errno.EWOULDBLOCK}
    sleeper.release()
    new.disable()
    new.unload()
    assert not livepatch.module(new.name).loaded


@pytest.mark.behaviour("FC-05")
def test_patch_after_a_forced_one(livepatch: Livepatch, tasks: Tasks, gate: Gates) -> None:
    """A patch that is loaded after a forced one is removable (68007289)."""
    _, sleeper = _force_enable(livepatch, tasks, gate)
    sleeper.release()
    later = livepatch.load("klp_test_cmdline_a", wait=True)
    later.disable()
    later.unload()
    assert not livepatch.module(later.name).loaded


def _force_enable(
    livepatch: Livepatch, tasks: Tasks, gate: Gates, *, replace: bool = False
) -> tuple[Patch, GateTask]:
    """Load a patch that a sleeper holds, and force it; return the patch and the sleeper."""
    sleeper = gate.enter()
    patch = livepatch.load("klp_test_gate", replace=replace)
    tasks.wait_all(PatchState.PATCHED, held_by=sleeper)
    patch.force()
    patch.wait_complete()
    return patch, sleeper
