# SPDX-License-Identifier: GPL-2.0-only
"""Tasks that hold a transition, and the list of patches, in a scripted guest."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest

from harness.errors import TransitionTimeout
from harness.livepatch.blockers import Blocker
from harness.livepatch.patch import Livepatch, Patch
from harness.livepatch.tasks import Tasks
from tests.unit.scripted_guest import (
    GATE,
    GATE_ROOT,
    IN_NEW,
    IN_OLD,
    LIVEPATCH,
    ScriptedGuest,
    ScriptedTask,
    guest_with_gate,
)

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def guest() -> ScriptedGuest:
    return guest_with_gate()


@pytest.fixture
def livepatch(guest: ScriptedGuest, tmp_path: Path) -> Livepatch:
    path = tmp_path / "klp_test_gate.ko"
    path.write_bytes(b"")
    return Livepatch(guest, modules={"klp_test_gate": path})


@pytest.fixture
def patch(livepatch: Livepatch) -> Patch:
    return livepatch.load("klp_test_gate")


def test_blocker_in_the_old_body(patch: Patch, guest: ScriptedGuest) -> None:
    """A task that sleeps in the original function is reported with that function."""
    sleeper = Tasks(guest).get(36)
    assert patch.blockers() == [Blocker(sleeper, in_function="klp_gate_wait")]
    assert patch.blockers() != [Blocker(sleeper, in_function="klp_gate_wait_second")]
    assert patch.blockers()[0].state == "D"


def test_blocker_in_the_new_body(patch: Patch, guest: ScriptedGuest) -> None:
    """While a patch is disabled every function of its module counts: sysfs lacks their names."""
    guest.complete("klp_test_gate")
    patch.disable(wait=False)
    guest.scripted_tasks[1].patch_state = 1
    guest.scripted_tasks[1].stack = IN_NEW
    assert [blocker.in_function for blocker in patch.blockers()] == ["klp_test_gate_wait"]


def test_blocker_in_an_older_patch(patch: Patch, guest: ScriptedGuest) -> None:
    """A body of a patch below blocks a newer patch of the same function."""
    guest.add_patch("klp_older", GATE)
    guest.scripted_tasks[1].stack = IN_NEW.replace("klp_test_gate", "klp_older")
    assert [blocker.in_function for blocker in patch.blockers()] == ["klp_older_wait"]


def test_a_function_of_that_name_elsewhere(patch: Patch, guest: ScriptedGuest) -> None:
    """The object counts: another module's function of the name is not the patched one."""
    guest.scripted_tasks[1].stack = "[<0>] klp_gate_wait+0xa/0x10 [other]\n"
    assert [blocker.in_function for blocker in patch.blockers()] == [None]
    guest.scripted_tasks[1].stack = "[<0>] klp_gate_wait+0xa/0x10\n"
    assert [blocker.in_function for blocker in patch.blockers()] == [None]


def test_a_function_of_the_kernel(patch: Patch, guest: ScriptedGuest) -> None:
    """A function without a module is vmlinux's; the innermost patched one is reported."""
    guest.files[f"{GATE_ROOT}/vmlinux/cmdline_proc_show,1/"] = ""
    guest.scripted_tasks[1].stack = (
        "[<0>] schedule+0x1/0x2\n[<0>] cmdline_proc_show+0x1/0x2\n"
        "[<0>] klp_gate_wait+0xa/0x10 [klp_target_gate 1f2e3d4c]\n"
    )
    assert [blocker.in_function for blocker in patch.blockers()] == ["cmdline_proc_show"]
    guest.remove(f"{GATE_ROOT}/vmlinux")
    assert [blocker.in_function for blocker in patch.blockers()] == ["klp_gate_wait"]


def test_who_is_no_blocker(patch: Patch, guest: ScriptedGuest) -> None:
    """Switched tasks, and any task when no transition runs, are no blockers."""
    guest.scripted_tasks[0].patch_state = None
    guest.scripted_tasks[1].patch_state = 1
    assert patch.blockers() == []
    assert not any(call.startswith("stack") for call in guest.calls)
    guest.scripted_tasks[1].patch_state = 0
    guest.complete("klp_test_gate")
    guest.scripted_tasks[1].patch_state = 0
    assert patch.blockers() == []
    guest.remove(GATE_ROOT)
    assert patch.blockers() == []


def test_a_blocker_that_switches_or_exits_while_looked_at(
    patch: Patch, guest: ScriptedGuest
) -> None:
    """A task that switches or exits while its stack is read is no blocker."""
    guest.fail("stack 36", ProcessLookupError())
    assert patch.blockers() == []
    real = guest.stack

    def switch(tid: int) -> str:
        guest.scripted_tasks[1].patch_state = 1
        return real(tid)

    guest.stack = switch  # type: ignore[method-assign]
    assert patch.blockers() == []


def test_patches_and_the_one_in_transition(livepatch: Livepatch, guest: ScriptedGuest) -> None:
    """All patches are listed; the one in transition is found."""
    guest.files[f"{LIVEPATCH}/"] = ""
    assert livepatch.patches() == []
    assert livepatch.in_transition() is None
    assert livepatch.describe_transition() == "no transition runs"
    guest.add_patch("klp_other", {})
    patch = livepatch.load("klp_test_gate")
    assert [found.name for found in livepatch.patches()] == ["klp_other", "klp_test_gate"]
    found = livepatch.in_transition()
    assert found is not None
    assert found.name == patch.name
    told = livepatch.describe_transition().splitlines()
    assert told[0] == "klp_test_gate is being enabled"
    assert told[1] == "task 36 (klp-gate): state D, in klp_gate_wait()"
    patch.reverse()
    assert livepatch.describe_transition().startswith("klp_test_gate is being disabled")


def test_handles_of_what_may_not_be_there(livepatch: Livepatch, guest: ScriptedGuest) -> None:
    """Handles of a patch and a module work before these exist."""
    patch, module = livepatch.patch("klp_other"), livepatch.module("klp_other")
    assert not patch.exists
    assert not module.loaded
    guest.add_patch("klp_other", {})
    guest.files["/sys/module/klp_other/parameters/mode"] = "warn\n"
    assert patch.exists
    assert module.loaded
    assert module.refcount == 1
    assert module.parameter("mode") == "warn"


def test_a_transition_that_ends_while_described(livepatch: Livepatch, guest: ScriptedGuest) -> None:
    """A patch that is gone by then, or whose tasks have all switched, is described so."""
    livepatch.load("klp_test_gate")
    guest.scripted_tasks[1].patch_state = 1
    assert livepatch.describe_transition() == "klp_test_gate is being enabled\nno task holds it"
    guest.fail(f"read {GATE_ROOT}/enabled", OSError(errno.ENODEV, "No such device"))
    assert livepatch.describe_transition() == "klp_test_gate is just gone"


def test_many_blockers_are_counted(patch: Patch, guest: ScriptedGuest) -> None:
    """The message names three and counts the rest; the details have all of them."""
    for tid in (50, 51, 52):
        guest.scripted_tasks.append(ScriptedTask(tid=tid, patch_state=0, stack=IN_OLD))
    with pytest.raises(TransitionTimeout) as caught:
        patch.wait_complete()
    assert "klp_gate_wait and 1 more" in caught.value.message
    assert sum(line.startswith("task ") for line in caught.value.details) == 4


def test_a_patch_that_goes_while_listed(livepatch: Livepatch, guest: ScriptedGuest) -> None:
    """A directory that vanishes between the list and the look is left out."""
    guest.add_patch("klp_other", {})
    guest.fail("read", OSError(errno.ENODEV, "No such device"))
    assert livepatch.in_transition() is None
