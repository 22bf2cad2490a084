# SPDX-License-Identifier: GPL-2.0-only
"""The task that loads a patch, or writes to its ``enabled``, tries to switch itself, too."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.livepatch.blockers import Blocker
from harness.livepatch.gates import Gates
from harness.livepatch.kernel_log import KernelLog
from harness.livepatch.patch import Livepatch
from harness.livepatch.tasks import PatchState, Tasks
from harness.livepatch.waiting import QUICK_S, scaled

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from harness.vm.guest.machine import Machine

TARGET, PATCH = "klp_target_self", "klp_test_self"
HELD = 5
FUNCTION = "klp_self"


@pytest.fixture(autouse=True)
def target(livepatch: Livepatch, gate: Gates) -> None:
    """The module whose function a patch can be enabled from."""
    livepatch.load_target(TARGET)


@pytest.mark.behaviour("TR-33")
def test_loader_is_switched(
    livepatch: Livepatch, tasks: Tasks, gate: Gates, kernel_log: KernelLog
) -> None:
    """The task that loads a patch is switched before klp_enable_patch() returns.

    A sleeper holds the transition, so that the state can still be read afterwards.
    """
    sleeper = gate.enter()
    patch = livepatch.load(PATCH)
    assert kernel_log.matching(f"{PATCH}: load: patch state 1$")
    tasks.wait_all(PatchState.PATCHED, held_by=sleeper)
    sleeper.release()
    patch.wait_complete()


@pytest.mark.behaviour("TR-33")
def test_loader_is_held(
    guest: Machine,
    livepatch: Livepatch,
    sample_modules: Mapping[str, Path],
    tasks: Tasks,
    gate: Gates,
    kernel_log: KernelLog,
) -> None:
    """A task that loads a patch from a function which that patch replaces holds the transition."""
    gate.close(HELD)
    load = f"exec insmod {guest.upload(sample_modules[PATCH])} inside=1"
    insmod = guest.spawn("sh", "-c", load)
    gate[HELD].await_task(insmod.pid)
    assert kernel_log.matching(f"{PATCH}: load: patch state 0$")
    loader, patch = tasks.get(insmod.pid), livepatch.patch(PATCH)
    tasks.wait_all(PatchState.PATCHED, held_by=loader)
    assert patch.in_transition
    assert patch.blockers() == [Blocker(loader, in_function=FUNCTION)]
    gate.open(HELD)
    assert insmod.wait(scaled(guest, QUICK_S)) == 0
    patch.wait_complete()


@pytest.mark.behaviour("TR-33")
def test_writer_is_switched(
    guest: Machine, livepatch: Livepatch, tasks: Tasks, gate: Gates, kernel_log: KernelLog
) -> None:
    """The task that writes 0 to ``enabled`` is switched before its write returns."""
    patch = livepatch.load(PATCH, wait=True)
    sleeper = gate.enter()
    guest.write(f"/proc/{FUNCTION}", f"beside {PATCH} 0\n")
    assert kernel_log.matching(f"{TARGET}: write: patch state 0$")
    tasks.wait_all(PatchState.UNPATCHED, held_by=sleeper)
    sleeper.release()
    patch.wait_gone()


@pytest.mark.behaviour("TR-33")
def test_writer_is_held(
    guest: Machine, livepatch: Livepatch, tasks: Tasks, gate: Gates, kernel_log: KernelLog
) -> None:
    """A task that disables a patch from a new body of it holds the transition."""
    patch = livepatch.load(PATCH, wait=True)
    gate.close(HELD)
    write = f"echo inside {PATCH} 0 >/proc/{FUNCTION}"
    shell = guest.spawn("sh", "-c", write)
    gate[HELD].await_task(shell.pid)
    assert kernel_log.matching(f"{TARGET}: write: patch state 1$")
    writer = tasks.get(shell.pid)
    tasks.wait_all(PatchState.UNPATCHED, held_by=writer)
    assert patch.in_transition
    gate.open(HELD)
    assert shell.wait(scaled(guest, QUICK_S)) == 0
    patch.wait_gone()
