# SPDX-License-Identifier: GPL-2.0-only
"""Names of function directories, and the per-task files in /proc."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.livepatch.gates import Gates, How
from harness.livepatch.patch import Livepatch, PatchedFunction
from harness.livepatch.tasks import PatchState, Tasks

if TYPE_CHECKING:
    from harness.vm.guest.machine import Machine

TWINS = "klp_target_twins"


@pytest.mark.behaviour("SY-03")
def test_sympos_in_the_name(livepatch: Livepatch) -> None:
    """A function's directory is ``name,sympos``; sympos 0 shows as 1."""
    unique = livepatch.load("klp_test_cmdline_a", wait=True)
    assert unique.object("vmlinux").functions() == (
        PatchedFunction(name="cmdline_proc_show", sympos=1),
    )
    livepatch.load_target(TWINS)
    second = livepatch.load("klp_test_symbol", object=TWINS, function="klp_twin", sympos=2)
    assert second.object(TWINS).functions() == (PatchedFunction(name="klp_twin", sympos=2),)
    second.wait_complete()


@pytest.mark.behaviour("SY-07")
def test_patch_state_of_processes_and_threads(
    guest: Machine, livepatch: Livepatch, tasks: Tasks, gate: Gates
) -> None:
    """patch_state of a process and of each thread: mode 0400, and -1, 0 or 1."""
    sleeper = gate.enter(how=How.THREAD)
    leader = f"/proc/{sleeper.pid}/patch_state"
    thread = f"/proc/{sleeper.pid}/task/{sleeper.tid}/patch_state"
    assert [guest.stat(path).mode for path in (leader, thread)] == [0o400, 0o400]
    assert [guest.read(path) for path in (leader, thread)] == ["-1\n", "-1\n"]
    patch = livepatch.load("klp_test_gate")
    tasks.wait_all(PatchState.PATCHED, held_by=sleeper)
    assert [guest.read(path) for path in (leader, thread)] == ["1\n", "0\n"]
    sleeper.release()
    patch.wait_complete()
