# SPDX-License-Identifier: GPL-2.0-only
"""Livepatches by their sysfs directories, against a scripted guest."""

from __future__ import annotations

import contextlib
import errno
from typing import TYPE_CHECKING

import pytest

from harness.deadline import Deadline
from harness.errors import ModuleRefused, TransitionTimeout, UsageError, WrongAttribute
from harness.livepatch.patch import Livepatch, Patch, PatchedFunction
from tests.unit.scripted_guest import (
    GATE,
    GATE_ROOT,
    IN_NEW,
    ScriptedGuest,
    guest_with_gate,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def guest() -> ScriptedGuest:
    return guest_with_gate()


@pytest.fixture
def modules(tmp_path: Path) -> dict[str, Path]:
    paths = {name: tmp_path / f"{name}.ko" for name in ("klp_test_gate", "klp_target_gate")}
    for path in paths.values():
        path.write_bytes(b"")
    return paths


@pytest.fixture
def livepatch(guest: ScriptedGuest, modules: dict[str, Path]) -> Livepatch:
    return Livepatch(guest, modules=modules)


@pytest.fixture
def patch(livepatch: Livepatch) -> Patch:
    return livepatch.load("klp_test_gate")


# -- load -------------------------------------------------------------------------------------


def test_load_starts_and_does_not_wait(livepatch: Livepatch, guest: ScriptedGuest) -> None:
    """load() returns while the transition runs; parameters travel as the kernel reads them."""
    patch = livepatch.load("klp_test_gate", replace=True, name="two words", count=3, empty="")
    assert patch.enabled
    assert patch.in_transition
    assert guest.calls[:2] == [
        "upload klp_test_gate.ko",
        'insmod /modules/klp_test_gate.ko replace=1 name="two words" count=3 empty=""',
    ]


def test_load_and_wait(livepatch: Livepatch, guest: ScriptedGuest) -> None:
    """With wait=True the transition has ended."""
    guest.later(lambda: guest.complete("klp_test_gate"))
    assert not livepatch.load("klp_test_gate", wait=True).in_transition


def test_load_by_path(livepatch: Livepatch, modules: dict[str, Path]) -> None:
    """A module is named by its sample's name, a Path, or a text that is a path."""
    assert livepatch.load(modules["klp_test_gate"]).name == "klp_test_gate"
    assert livepatch.load(str(modules["klp_test_gate"])).name == "klp_test_gate"


@pytest.mark.parametrize("value", ['a"b', "a\nb"])
def test_a_parameter_that_cannot_be_written(livepatch: Livepatch, value: str) -> None:
    """A value that would end early is refused rather than changed."""
    with pytest.raises(UsageError, match="parameter text"):
        livepatch.load("klp_test_gate", text=value)


def test_unknown_modules(livepatch: Livepatch, tmp_path: Path) -> None:
    """An unknown name is refused with the known ones, before the guest is asked."""
    with pytest.raises(UsageError, match="no module klp_test_gote") as caught:
        livepatch.load("klp_test_gote")
    assert caught.value.hint is not None
    assert "klp_test_gate" in caught.value.hint
    with pytest.raises(UsageError, match="no file"):
        livepatch.load(tmp_path / "absent.ko")


def test_a_refusal_passes(livepatch: Livepatch, guest: ScriptedGuest) -> None:
    """The kernel's errno reaches the test."""
    guest.fail("insmod", ModuleRefused("klp_test_gate", errno.EBUSY))
    with pytest.raises(ModuleRefused) as caught:
        livepatch.load("klp_test_gate")
    assert caught.value.errno == errno.EBUSY


def test_a_module_that_is_no_livepatch(livepatch: Livepatch, guest: ScriptedGuest) -> None:
    """load() of a plain module does not give a handle to nothing."""
    with pytest.raises(UsageError, match="has no directory"):
        livepatch.load("klp_target_gate")


def test_a_target(livepatch: Livepatch, guest: ScriptedGuest) -> None:
    """A plain module has a reference count and can be unloaded."""
    target = livepatch.load_target("klp_target_gate")
    assert target.loaded
    assert target.refcount == 0
    target.unload()
    assert not target.loaded
    with pytest.raises(FileNotFoundError):
        _ = target.refcount


# -- attributes -------------------------------------------------------------------------------


def test_attributes_of_this_kernel(patch: Patch, guest: ScriptedGuest) -> None:
    """What a kernel lacks is None and not has(); what it has is read."""
    assert patch.has("replace") is False
    assert patch.replace is None
    assert patch.stack_order is None
    guest.files[f"{GATE_ROOT}/replace"] = "1\n"
    guest.files[f"{GATE_ROOT}/stack_order"] = "3\n"
    assert patch.has("replace")
    assert patch.replace is True
    assert patch.stack_order == 3


def test_a_patch_that_has_gone_is_not_one_without_attributes(
    patch: Patch, guest: ScriptedGuest
) -> None:
    """A missing directory is a FileNotFoundError, not an attribute that is None."""
    guest.remove(GATE_ROOT)
    assert patch.exists is False
    for attribute in ("enabled", "in_transition", "replace", "stack_order"):
        with pytest.raises(FileNotFoundError):
            getattr(patch, attribute)
    with pytest.raises(FileNotFoundError):
        _ = patch.object("klp_target_gate").patched
    with pytest.raises(FileNotFoundError):
        patch.objects()


def test_an_attribute_that_is_going_away(patch: Patch, guest: ScriptedGuest) -> None:
    """sysfs answers ENODEV for a moment: the same as gone."""
    guest.fail(f"read {GATE_ROOT}/enabled", OSError(errno.ENODEV, "No such device"))
    with pytest.raises(FileNotFoundError):
        _ = patch.enabled


def test_other_errors_are_no_absence(patch: Patch, guest: ScriptedGuest) -> None:
    """Only a missing file makes an attribute unavailable."""
    guest.files[f"{GATE_ROOT}/replace"] = "1\n"
    guest.fail(f"read {GATE_ROOT}/replace", PermissionError(errno.EACCES, "Permission denied"))
    with pytest.raises(PermissionError):
        _ = patch.replace


def test_a_flag_that_is_none(patch: Patch, guest: ScriptedGuest) -> None:
    """A text that is neither 0 nor 1 is the kernel's fault, not False."""
    guest.files[f"{GATE_ROOT}/enabled"] = "yes\n"
    with pytest.raises(WrongAttribute, match="'yes'"):
        _ = patch.enabled


def test_a_number_that_is_none(patch: Patch, guest: ScriptedGuest) -> None:
    """So is an empty file where a number belongs, and a function without its position."""
    guest.files[f"{GATE_ROOT}/stack_order"] = ""
    with pytest.raises(WrongAttribute, match="stack_order reads ''"):
        _ = patch.stack_order
    guest.files["/sys/module/klp_test_gate/refcnt"] = "\n"
    with pytest.raises(WrongAttribute, match="refcnt reads ''"):
        _ = patch.module.refcount
    guest.files[f"{GATE_ROOT}/vmlinux/cmdline_proc_show,/"] = ""
    with pytest.raises(WrongAttribute, match="cmdline_proc_show, reads ''"):
        patch.object("vmlinux").functions()


def test_modes(patch: Patch) -> None:
    """Modes of the attributes, without the objects' directories."""
    assert patch.modes() == {"enabled": 0o644, "force": 0o200, "transition": 0o444}
    assert patch.object("klp_target_gate").modes() == {"patched": 0o444}


def test_objects_and_functions(patch: Patch, guest: ScriptedGuest) -> None:
    """Objects have functions with their sympos, also with dots in a name."""
    guest.files[f"{GATE_ROOT}/vmlinux/cmdline_proc_show.isra.0,12/"] = ""
    gate, vmlinux = patch.objects()
    assert gate.name == "klp_target_gate"
    assert gate.patched is True
    assert gate.functions() == (
        PatchedFunction(name="klp_gate_wait", sympos=1),
        PatchedFunction(name="klp_gate_wait_second", sympos=1),
    )
    assert vmlinux.patched is None
    assert vmlinux.functions() == (PatchedFunction(name="cmdline_proc_show.isra.0", sympos=12),)


def test_refused_writes(patch: Patch) -> None:
    """A test of a refusal gets the errno."""
    for text in ("garbage", "1"):
        with pytest.raises(OSError, match="Invalid argument") as caught:
            patch.write("enabled", text)
        assert caught.value.errno == errno.EINVAL


# -- waiting ----------------------------------------------------------------------------------


def test_wait_complete(patch: Patch, guest: ScriptedGuest) -> None:
    """The guest waits, by one call."""
    guest.later(lambda: None, lambda: guest.complete("klp_test_gate"))
    patch.wait_complete()
    assert not patch.in_transition
    assert sum(call.startswith("poll ") for call in guest.calls) == 1


WAITS: dict[str, Callable[[Patch, Deadline | None], object]] = {
    "complete": lambda patch, deadline: patch.wait_complete(deadline),
    "gone": lambda patch, deadline: patch.wait_gone(deadline),
    "unused": lambda patch, deadline: patch.module.wait_unused(deadline),
    "disable": lambda patch, deadline: patch.disable(deadline=deadline),
    "unload": lambda patch, deadline: patch.unload(deadline),
}


@pytest.mark.parametrize("name", WAITS)
def test_deadlines(patch: Patch, guest: ScriptedGuest, name: str) -> None:
    """A deadline that is given is kept; the default grows with the guest's slowness."""
    deadline = Deadline.after(7)
    for given in (deadline, None):
        guest.time_scale = 10.0
        guest.deadlines.clear()
        guest.add_patch("klp_test_gate", GATE, enabled=name != "unload")
        with contextlib.suppress(TransitionTimeout, ModuleRefused):
            WAITS[name](patch, given)
        assert guest.deadlines
        if given is not None:
            assert set(guest.deadlines) == {deadline}
        else:
            assert min(each.remaining_s for each in guest.deadlines) > 60


def test_enable_reverses_a_disable(patch: Patch, guest: ScriptedGuest) -> None:
    """enable() writes 1, and raises what the kernel answers."""
    guest.complete("klp_test_gate")
    patch.disable(wait=False)
    patch.enable()
    assert patch.enabled
    with pytest.raises(OSError, match="Invalid argument"):
        patch.enable()


def test_a_patch_that_vanishes_has_completed(patch: Patch, guest: ScriptedGuest) -> None:
    """A disabled or replaced patch may be gone before anybody sees transition 0."""
    guest.later(lambda: guest.remove(GATE_ROOT))
    patch.wait_complete()
    assert not patch.exists


def test_the_timeout_names_the_blockers(patch: Patch, guest: ScriptedGuest) -> None:
    """Task, state and patched function are in the error, stacks in its details."""
    with pytest.raises(TransitionTimeout) as caught:
        patch.wait_complete()
    assert "held by klp-gate (36) in klp_gate_wait" in caught.value.message
    assert caught.value.details[0] == "task 36 (klp-gate): state D, in klp_gate_wait()"
    assert "klp_gate_sleep" in caught.value.details[1]


def test_a_timeout_without_blockers(patch: Patch, guest: ScriptedGuest) -> None:
    """When no task holds a transition that does not end, the error says so."""
    guest.scripted_tasks[1].patch_state = 1
    with pytest.raises(TransitionTimeout, match="no task holds it"):
        patch.wait_complete()


def test_a_file_that_cannot_be_looked_at(patch: Patch, guest: ScriptedGuest) -> None:
    """An error of the wait is not taken for the end of the transition."""
    real = guest.poll_file
    guest.poll_file = lambda *a, **k: real(*a, **k).model_copy(  # type: ignore[method-assign]
        update={"errno": errno.EACCES}
    )
    with pytest.raises(PermissionError):
        patch.wait_complete()


# -- disable, reverse, force, unload ----------------------------------------------------------


def test_completes(patch: Patch, guest: ScriptedGuest) -> None:
    """A transition that has not ended by the deadline is no error; who waits decides."""
    assert not patch.completes(Deadline.after(0.05))
    guest.complete(patch.name)
    assert patch.completes(Deadline.after(5))


def test_disable_waits(patch: Patch, guest: ScriptedGuest) -> None:
    """disable() returns when the transition has ended."""
    guest.complete("klp_test_gate")
    guest.later(lambda: guest.complete("klp_test_gate"))
    patch.disable()
    assert not patch.enabled
    assert not patch.in_transition


def test_reverse(patch: Patch, guest: ScriptedGuest) -> None:
    """reverse() writes the opposite of what is enabled now, and again back."""
    patch.reverse()
    assert not patch.enabled
    patch.reverse()
    assert patch.enabled
    guest.complete("klp_test_gate")
    with pytest.raises(UsageError, match="not in transition"):
        patch.reverse()
    assert patch.enabled


def test_force(patch: Patch, guest: ScriptedGuest) -> None:
    """force() ends a transition and is refused without one."""
    patch.force()
    assert not patch.in_transition
    with pytest.raises(OSError, match="Invalid argument"):
        patch.force()


def test_unload_waits_for_sysfs_and_the_reference(patch: Patch, guest: ScriptedGuest) -> None:
    """The directory goes first, then the reference; only then is the module removed."""
    guest.complete("klp_test_gate")
    patch.disable(wait=False)
    guest.later(lambda: guest.complete("klp_test_gate"))
    patch.unload()
    assert guest.calls[-1] == "rmmod klp_test_gate"
    assert not patch.module.loaded


def test_unload_of_an_enabled_patch_is_the_kernels_to_refuse(
    patch: Patch, guest: ScriptedGuest
) -> None:
    """unload() does not wait for an enabled patch: the kernel refuses at once."""
    guest.complete("klp_test_gate")
    with pytest.raises(ModuleRefused) as caught:
        patch.unload()
    assert caught.value.errno == errno.EBUSY
    assert not any(call.startswith("poll ") for call in guest.calls)


def test_unload_of_a_patch_that_is_being_enabled(patch: Patch, guest: ScriptedGuest) -> None:
    """Nor does it wait for one that is being enabled."""
    with pytest.raises(ModuleRefused):
        patch.unload()
    assert not any(call.startswith("poll ") for call in guest.calls)


def test_unload_while_a_task_blocks(patch: Patch, guest: ScriptedGuest) -> None:
    """unload() of a patch that a task holds is a time-out that names the task."""
    patch.reverse()
    guest.scripted_tasks[1].patch_state = 1
    guest.scripted_tasks[1].stack = IN_NEW
    with pytest.raises(
        TransitionTimeout, match=r"held by klp-gate \(36\) in klp_test_gate_wait, init"
    ):
        patch.unload()
    assert patch.module.loaded


def test_unload_of_a_pinned_module(patch: Patch, guest: ScriptedGuest) -> None:
    """A reference that stays, as after a forced disable, ends in the kernel's refusal."""
    guest.complete("klp_test_gate")
    guest.remove(GATE_ROOT)
    with pytest.raises(ModuleRefused):
        patch.unload()
