# SPDX-License-Identifier: GPL-2.0-only
"""Target modules that are loaded, unloaded and loaded again while their patch is enabled."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.agent_protocol import Op
from harness.livepatch.gates import Gates
from harness.livepatch.kernel_log import KernelLog
from harness.livepatch.patch import Livepatch
from harness.livepatch.waiting import QUICK_S, poll, scaled

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.behaviours.conftest import Guestview

PATCH = "klp_test_target_fg"
TARGET = "klp_target_mod"
BOTH, FILES_GATE = "klp_test_two_objects", 6


@pytest.mark.behaviour("MO-01")
def test_patched_before_its_init(
    livepatch: Livepatch, view: Guestview, kernel_log: KernelLog
) -> None:
    """A target that is loaded after the patch is patched before its init runs."""
    livepatch.load(PATCH, wait=True)
    livepatch.load_target(TARGET)
    (record,) = kernel_log.matching("init sees: ")
    assert record.text.endswith(f"init sees: f {PATCH}")
    assert (view.target("f"), view.target("g")) == (PATCH, PATCH)


@pytest.mark.slow(4)
@pytest.mark.behaviour("MO-02")
def test_reloaded_target_is_patched_again(
    livepatch: Livepatch, view: Guestview, kernel_log: KernelLog
) -> None:
    """A target that is reloaded is patched again, and ``patched`` is 0 in between."""
    module = livepatch.load_target(TARGET)
    patch = livepatch.load(PATCH, wait=True)
    assert (view.target("f"), view.target("g")) == (PATCH, PATCH)
    for _ in range(2):
        module.unload()
        assert view.shows_patched(patch.object(TARGET), patched=False)
        kernel_log.mark()
        module = livepatch.load_target(TARGET)
        assert view.shows_patched(patch.object(TARGET), patched=True)
        assert kernel_log.matching(f"init sees: f {PATCH}$")
        assert (view.target("f"), view.target("g")) == (PATCH, PATCH)
    patch.disable()
    patch.unload()
    assert (view.target("f"), view.target("g")) == ("original", "original")


@pytest.mark.behaviour("MO-16")
def test_target_loaded_while_the_patch_is_set_up(
    livepatch: Livepatch,
    gate: Gates,
    view: Guestview,
    kernel_log: KernelLog,
    sample_modules: Mapping[str, Path],
) -> None:
    """A target that waits for a livepatch which is being set up is patched once, by its own load.

    The livepatch is held in klp_init_patch() before it looks for the target, which counts as not
    loaded until klp_module_coming() has the lock (8cb2c2dc, klp_find_object_module()).
    """
    guest = livepatch.guest
    livepatch.load("klp_test_slow_attributes", wait=True)
    files = [guest.upload(sample_modules[name]) for name in (BOTH, TARGET)]
    gate.close(FILES_GATE)
    deadline = scaled(guest, QUICK_S)
    patching = guest.spawn("/sbin/insmod", files[0])
    waiting = "/proc/klp_gate_waiting"
    assert poll(guest, waiting, Op.CONTAINS, f"{FILES_GATE} ", deadline=deadline)
    coming = guest.spawn("/sbin/insmod", files[1])
    stack = f"/proc/{coming.pid}/stack"
    assert poll(guest, stack, Op.CONTAINS, "klp_module_coming", deadline=deadline)
    gate.open(FILES_GATE)
    assert patching.wait(scaled(guest, QUICK_S)) == 0
    assert coming.wait(scaled(guest, QUICK_S)) == 0
    patch = livepatch.patch(BOTH)
    patch.wait_complete()
    assert view.shows_patched(patch.object(TARGET), patched=True)
    assert len(kernel_log.matching(f"callback pre_patch {TARGET}")) == 1
    assert kernel_log.matching(f"init sees: f {BOTH}$")
    assert view.target("f") == BOTH
