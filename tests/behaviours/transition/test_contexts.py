# SPDX-License-Identifier: GPL-2.0-only
"""Patched functions that are called in an NMI, and inside handlers of ftrace."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.livepatch.gates import Gates
from harness.livepatch.kernel_log import KernelLog
from harness.livepatch.patch import Livepatch
from harness.livepatch.tasks import PatchState, Tasks

if TYPE_CHECKING:
    from harness.vm.guest.machine import Machine

PATCH = NEW = "klp_test_symbol"
ORIGINAL = "original"
NMI_TARGET, NMI = "klp_target_nmi", "/sys/kernel/klp_nmi"
NESTED_TARGET, NESTED = "klp_target_nested", "/sys/kernel/klp_nested"
HOLD_GATE = 5
WARNS = "klp_ftrace_handler"


@pytest.mark.behaviour("TR-44")
def test_nmi_has_the_state_of_the_task(
    guest: Machine, livepatch: Livepatch, tasks: Tasks, gate: Gates
) -> None:
    """An NMI handler runs the body that fits the state of the task which it has interrupted.

    klp_ftrace_handler() (kernel/livepatch/patch.c) asks for the state of `current`, also there.
    """
    livepatch.load_target(NMI_TARGET)
    assert _said(guest, f"{NMI}/self") == ORIGINAL
    gate.close(HOLD_GATE)
    reader = guest.spawn("cat", f"{NMI}/hold")
    gate[HOLD_GATE].await_task(reader.pid)
    holder = tasks.get(reader.pid)
    patch = livepatch.load(
        PATCH, object=NMI_TARGET, function="klp_nmi_text", function2="klp_nmi_hold"
    )
    tasks.wait_all(PatchState.PATCHED, held_by=holder)
    assert _said(guest, f"{NMI}/self") == NEW
    gate.open(HOLD_GATE)
    assert reader.next_line(guest.scaled(10)) == ORIGINAL
    patch.wait_complete()
    assert _said(guest, f"{NMI}/self") == NEW
    patch.disable()
    patch.unload()
    assert _said(guest, f"{NMI}/self") == ORIGINAL


@pytest.mark.behaviour("TR-45")
def test_called_in_a_handler_of_ftrace(guest: Machine, livepatch: Livepatch) -> None:
    """In a handler of ftrace a patched function runs its new body."""
    _patch_nested(guest, livepatch)
    assert _said(guest, f"{NESTED}/once") == NEW


@pytest.mark.inconsistent("the guard lets a task that is switched run the original")
@pytest.mark.behaviour("TR-45")
def test_called_in_nested_handlers(
    guest: Machine, livepatch: Livepatch, kernel_log: KernelLog
) -> None:
    """In a handler inside another the guard against recursion refuses: the original runs.

    klp_ftrace_handler() warns of that where it takes the guard itself (include/linux/
    trace_recursion.h); before, ftrace skips it without a word.
    """
    _patch_nested(guest, livepatch)
    warns = guest.read(f"{NESTED}/guard").strip() == "1"
    if warns:
        guest.expect_splat(WARNS)
    assert _said(guest, f"{NESTED}/twice") == ORIGINAL
    assert bool(kernel_log.matching(WARNS)) is warns


def _patch_nested(guest: Machine, livepatch: Livepatch) -> None:
    livepatch.load_target(NESTED_TARGET)
    assert {_said(guest, f"{NESTED}/{name}") for name in ("plain", "once", "twice")} == {ORIGINAL}
    livepatch.load(PATCH, wait=True, object=NESTED_TARGET, function="klp_nested_text")
    assert _said(guest, f"{NESTED}/plain") == NEW


def _said(guest: Machine, path: str) -> str:
    return guest.read(path).strip()
