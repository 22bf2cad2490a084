# SPDX-License-Identifier: GPL-2.0-only
"""Who keeps a transition from its end, by stacks first, in a scripted guest."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.livepatch.patch import Livepatch, Patch
from harness.tools.models.holders import who_holds
from tests.unit.scripted_guest import (
    IN_NEW,
    IN_OLD,
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
def patch(livepatch: Livepatch, guest: ScriptedGuest) -> Patch:
    loaded = livepatch.load("klp_test_gate")
    guest.scripted_tasks[:] = [ScriptedTask(tid=36, comm="klp-gate", patch_state=1, stack=IN_OLD)]
    return loaded


def test_who_is_inside_holds_whatever_its_state(livepatch: Livepatch, patch: Patch) -> None:
    """Where the kernel switches as a whole, the state of a task does not say that it holds."""
    assert who_holds(livepatch, patch) == "klp-gate (36) is inside klp_gate_wait()"


def test_a_kernel_thread_is_named_as_one(
    guest: ScriptedGuest, livepatch: Livepatch, patch: Patch
) -> None:
    """It is what a reason has to say: no signal reaches it."""
    guest.scripted_tasks[0].kthread = True
    assert "klp-gate (36), a kernel thread, is inside" in who_holds(livepatch, patch)


def test_a_new_body_holds_the_way_back_alone(
    guest: ScriptedGuest, livepatch: Livepatch, patch: Patch
) -> None:
    """A task in a function of the patch itself holds its disable, and not its enable."""
    guest.scripted_tasks[0].stack = IN_NEW
    assert "klp-gate" not in who_holds(livepatch, patch)
    guest.complete("klp_test_gate")
    patch.disable(wait=False)
    assert "klp-gate (36) is inside" in who_holds(livepatch, patch)


def test_an_old_body_holds_no_way_back(
    guest: ScriptedGuest, livepatch: Livepatch, patch: Patch
) -> None:
    """A task in the original function does not hold a disable, which is on the way there."""
    guest.complete("klp_test_gate")
    patch.disable(wait=False)
    guest.scripted_tasks[0].stack = IN_OLD
    assert "klp-gate" not in who_holds(livepatch, patch)


def test_many_holders_are_counted(guest: ScriptedGuest, livepatch: Livepatch, patch: Patch) -> None:
    """Three are named, and the sleepers of a crowd are not looked at."""
    guest.scripted_tasks += [
        ScriptedTask(tid=tid, comm="reader", stack=IN_OLD) for tid in range(40, 44)
    ]
    guest.scripted_tasks.append(ScriptedTask(tid=50, comm="klp-sleepers", stack=IN_OLD))
    assert who_holds(livepatch, patch).endswith("reader (41) is inside klp_gate_wait() and 2 more")


def test_who_has_not_switched_is_counted(
    guest: ScriptedGuest, livepatch: Livepatch, patch: Patch
) -> None:
    """Where nobody is inside, the tasks that are left, with how many are kernel threads."""
    guest.scripted_tasks[:] = [
        ScriptedTask(tid=2, comm="kthreadd", kthread=True, patch_state=0),
        ScriptedTask(tid=1, comm="init", patch_state=0),
        ScriptedTask(tid=9, comm="sh", patch_state=1),
    ]
    assert (
        who_holds(livepatch, patch)
        == "not switched: 2, of which kernel threads: 1 (init, kthreadd, ...)"
    )


def test_nobody_holds(guest: ScriptedGuest, livepatch: Livepatch, patch: Patch) -> None:
    """A transition that nobody holds and that does not end is said to be one."""
    guest.scripted_tasks[:] = [ScriptedTask(tid=9, comm="sh", patch_state=1)]
    assert who_holds(livepatch, patch) == "no task is inside, and none is left to switch"
