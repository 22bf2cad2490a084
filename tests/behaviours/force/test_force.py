# SPDX-License-Identifier: GPL-2.0-only
"""``force`` ends a transition that a task holds, at a price (c99a2be7)."""

from __future__ import annotations

import errno

import pytest

from harness.errors import ModuleRefused
from harness.livepatch.gates import Gates
from harness.livepatch.kernel_log import KernelLog
from harness.livepatch.patch import Livepatch, Patch
from harness.livepatch.tasks import PatchState, Tasks


@pytest.mark.behaviour("FC-01")
def test_force_ends_a_blocked_transition(
    livepatch: Livepatch, tasks: Tasks, gate: Gates, kernel_log: KernelLog
) -> None:
    """Writing 1 to ``force`` ends a held transition; the kernel logs a warning."""
    sleeper = gate.enter()
    patch = livepatch.load("klp_test_gate")
    tasks.wait_all(PatchState.PATCHED, held_by=sleeper)
    patch.force()
    patch.wait_complete()
    assert patch.enabled
    assert gate.waiting() == [sleeper.tid], "force must not wake the sleeper"
    assert tasks.states() == {PatchState.UNDEFINED}
    (record,) = kernel_log.matching("forcing remaining tasks")
    assert record.level == 4, "not logged as a warning"
    sleeper.release()


@pytest.mark.behaviour("FC-02")
def test_forced_disable_pins_the_module(livepatch: Livepatch, tasks: Tasks, gate: Gates) -> None:
    """After a forced disable the module stays: a task may still be in its new body."""
    patch = livepatch.load("klp_test_gate", wait=True)
    sleeper = gate.enter()
    patch.disable(wait=False)
    tasks.wait_all(PatchState.UNPATCHED, held_by=sleeper)
    patch.force()
    patch.wait_gone()
    module = livepatch.module(patch.name)
    assert module.refcount == 1
    with pytest.raises(ModuleRefused) as refused:
        module.unload()
    assert refused.value.errno in {errno.EBUSY, errno.EAGAIN}
    assert module.loaded
    sleeper.release()


@pytest.mark.behaviour("FC-06")
@pytest.mark.parametrize("text", ["1", "garbage", "2 3"])
def test_force_without_transition_is_refused(livepatch: Livepatch, text: str) -> None:
    """Writing anything to ``force`` of a patch that is not in transition is EINVAL."""
    patch = livepatch.load("klp_test_cmdline_a", wait=True)
    _refused(patch, text)


@pytest.mark.behaviour("FC-06")
def test_force_takes_only_one(livepatch: Livepatch, tasks: Tasks, gate: Gates) -> None:
    """During a transition garbage is EINVAL, 0 is accepted and does nothing, a read fails."""
    sleeper = gate.enter()
    patch = livepatch.load("klp_test_gate")
    tasks.wait_all(PatchState.PATCHED, held_by=sleeper)
    _refused(patch, "garbage")
    patch.write("force", "0")
    assert patch.in_transition
    assert sleeper.patch_state is PatchState.UNPATCHED
    with pytest.raises(OSError, match="force") as refused:
        patch.read("force")
    # The attribute has no show method; mode 0200 does not keep root out (fs/sysfs/file.c).
    assert refused.value.errno in {errno.EIO, errno.EACCES}
    sleeper.release()
    patch.wait_complete()


@pytest.mark.slow(7)
@pytest.mark.behaviour("FC-09")
@pytest.mark.parametrize("enabling", [True, False], ids=["enabling", "disabling"])
def test_force_of_another_patch(
    livepatch: Livepatch, tasks: Tasks, gate: Gates, kernel_log: KernelLog, enabling: bool
) -> None:
    """1 written to ``force`` of a patch is EINVAL while another is in transition; it goes on.

    force_store() (kernel/livepatch/core.c) compares the patch with the one in transition. The
    other patch is not forced either, so that its module can be unloaded in the end.
    """
    other = livepatch.load("klp_test_cmdline_a", wait=True)
    if enabling:
        sleeper = gate.enter()
        held = livepatch.load("klp_test_gate")
    else:
        held = livepatch.load("klp_test_gate", wait=True)
        sleeper = gate.enter()
        held.disable(wait=False)
    tasks.wait_all(PatchState.PATCHED if enabling else PatchState.UNPATCHED, held_by=sleeper)
    before = sleeper.patch_state
    _refused(other, "1")
    assert sleeper.patch_state is before
    assert held.in_transition
    assert not other.in_transition
    assert not kernel_log.matching("forcing remaining tasks")
    sleeper.release()
    held.wait_complete()
    if enabling:
        held.disable()
    held.unload()
    other.disable()
    other.unload()


def _refused(patch: Patch, text: str) -> None:
    with pytest.raises(OSError, match="force") as refused:
        patch.write("force", text)
    assert refused.value.errno == errno.EINVAL
