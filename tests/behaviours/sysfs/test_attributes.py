# SPDX-License-Identifier: GPL-2.0-only
"""The attributes of a patch (Documentation/ABI/testing/sysfs-kernel-livepatch)."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest

from harness.deadline import wait_until
from harness.livepatch.gates import Gates
from harness.livepatch.patch import Livepatch, Patch
from harness.livepatch.tasks import PatchState, Tasks
from harness.livepatch.waiting import QUICK_S, scaled

if TYPE_CHECKING:
    from harness.vm.guest.machine import Machine
    from tests.behaviours.conftest import Guestview

TARGET, SLOW = "klp_target_mod", "klp_test_slow_callback"
SLOW_GATE = 6  # of the callbacks of SLOW
_WRITE = 'echo "$2" 2>&1 >"$1"'
ALWAYS = {"enabled": 0o644, "transition": 0o444, "force": 0o200}
NEWER = {"replace": 0o444, "stack_order": 0o444}


@pytest.mark.slow(8)
@pytest.mark.behaviour("SY-01")
def test_modes_and_values(livepatch: Livepatch, view: Guestview) -> None:
    """Every attribute has its documented mode and value.

    A kernel has an attribute when it has the function that shows it.
    """
    patch = livepatch.load("klp_test_cmdline_a", wait=True)
    modes = patch.modes()
    present = {name: mode for name, mode in NEWER.items() if view.has_function(f"{name}_show")}
    assert modes == ALWAYS | present
    assert patch.read("enabled") == "1"
    assert patch.read("transition") == "0"
    if "replace" in present:
        assert patch.read("replace") == "0"
    if "stack_order" in present:
        assert patch.read("stack_order") == "1"
    vmlinux = patch.object("vmlinux")
    has_patched = view.has_function("patched_show")
    assert vmlinux.modes() == ({"patched": 0o444} if has_patched else {})
    assert view.shows_patched(vmlinux, patched=True)


@pytest.mark.behaviour("SY-02")
def test_patched_follows_the_target(livepatch: Livepatch, view: Guestview) -> None:
    """An object's ``patched`` is 1 while its target module is loaded."""
    patch = livepatch.load("klp_test_target_fg", wait=True)
    target = patch.object(TARGET)
    if not view.has_function("patched_show"):
        assert not target.has("patched")
        pytest.skip("objects of this kernel have no attribute `patched`")
    assert target.patched is False
    module = livepatch.load_target(TARGET)
    assert target.patched is True
    module.unload()
    assert target.patched is False


@pytest.mark.behaviour("SY-04")
@pytest.mark.parametrize("text", ["garbage", "2 3", "1"])
def test_rejected_writes_to_enabled(livepatch: Livepatch, view: Guestview, text: str) -> None:
    """Writing garbage or the present value to ``enabled`` is EINVAL and changes nothing."""
    patch = livepatch.load("klp_test_cmdline_a", wait=True)
    _refused(patch, text, errno.EINVAL)
    assert (patch.enabled, patch.in_transition) == (True, False)
    assert view.cmdline() == patch.name


@pytest.mark.behaviour("SY-04")
def test_disabled_patch_is_not_enabled_again(
    guest: Machine, livepatch: Livepatch, view: Guestview
) -> None:
    """A disabled patch is not enabled again, not even through a file held open (3ec24776)."""
    patch = livepatch.load("klp_test_cmdline_a", wait=True)
    script = 'exec 3>"$1"; echo open; read _; if echo 1 >&3; then echo yes; else echo no; fi'
    path = f"/sys/kernel/livepatch/{patch.name}/enabled"
    writer = guest.spawn("sh", "-c", script, "writer", path)
    assert writer.next_line(guest.scaled(10)) == "open"
    patch.disable()
    patch.wait_gone()
    writer.write_line("go")
    assert writer.next_line(guest.scaled(10)) == "no"
    with pytest.raises(FileNotFoundError):
        patch.write("enabled", "1")
    assert view.cmdline() == "original"


@pytest.mark.behaviour("SY-04")
def test_enabling_at_the_end_of_a_disable(
    guest: Machine, livepatch: Livepatch, gate: Gates
) -> None:
    """A write of 1 that waits for the lock until the disable is complete is EINVAL.

    The transition has ended by then, and the directory is still there.
    """
    patch = livepatch.load(SLOW, wait=True)
    gate.close(SLOW_GATE)
    path = f"{patch.path}/enabled"
    disabling = guest.spawn("sh", "-c", _WRITE, "write", path, "0")
    assert wait_until(lambda: bool(gate.waiting(SLOW_GATE)), guest.scaled(QUICK_S))
    enabling = guest.spawn("sh", "-c", _WRITE, "write", path, "1")
    stack = f"/proc/{enabling.pid}/stack"
    assert wait_until(lambda: "enabled_store" in guest.read(stack), guest.scaled(QUICK_S))
    gate.open(SLOW_GATE)
    assert disabling.wait(scaled(guest, QUICK_S)) == 0
    assert "Invalid argument" in enabling.next_line(scaled(guest, QUICK_S))
    patch.wait_gone()
    patch.unload()


@pytest.mark.slow(8)
@pytest.mark.behaviour("SY-04")
def test_disable_during_another_transition(livepatch: Livepatch, tasks: Tasks, gate: Gates) -> None:
    """Writing 0 while another patch is in transition is EBUSY, and changes nothing."""
    quiet = livepatch.load("klp_test_cmdline_a", wait=True)
    sleeper = gate.enter()
    blocked = livepatch.load("klp_test_gate")
    tasks.wait_all(PatchState.PATCHED, held_by=sleeper)
    _refused(quiet, "0", errno.EBUSY)
    assert (quiet.enabled, quiet.in_transition) == (True, False)
    assert blocked.in_transition
    sleeper.release()
    blocked.wait_complete()
    quiet.disable()


@pytest.mark.behaviour("SY-05")
def test_directory_goes_after_disable(livepatch: Livepatch, view: Guestview) -> None:
    """After a disable the directory is removed, and the module can be (958ef1e3, 3ec24776)."""
    patch = livepatch.load("klp_test_cmdline_a", wait=True)
    patch.disable()
    patch.wait_gone()
    assert not patch.exists
    module = livepatch.module(patch.name)
    assert module.loaded
    assert module.wait_unused(), "the patch is gone and its module is still in use"
    module.unload()
    assert patch.name not in view.modules()
    again = livepatch.load("klp_test_cmdline_a", wait=True)
    assert view.cmdline() == again.name


def _refused(patch: Patch, text: str, number: int) -> None:
    with pytest.raises(OSError, match="enabled") as refused:
        patch.write("enabled", text)
    assert refused.value.errno == number
