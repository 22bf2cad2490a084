# SPDX-License-Identifier: GPL-2.0-only
"""Interrupt handlers run the body of the task that they interrupt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from harness.deadline import wait_until
from harness.livepatch.patch import Livepatch
from harness.livepatch.tasks import PatchState, Tasks
from harness.livepatch.waiting import QUICK_S, scaled

if TYPE_CHECKING:
    from harness.vm.guest.machine import Machine

TARGET, PATCH = "klp_target_irq", "klp_test_symbol"
HANDLERS = "/sys/kernel/klp_irq/handlers"
STOP = f"/sys/module/{TARGET}/parameters/stop"
OLD, NEW = "original", PATCH


@dataclass(frozen=True, kw_only=True)
class Handler:
    """What an interrupt handler has found: the task that it interrupted, and the body it ran."""

    tid: int
    state: PatchState
    body: str


def interrupt(guest: Machine) -> list[Handler]:
    """Interrupt every CPU once; return what the handlers have found."""
    found = []
    for line in guest.read(HANDLERS).splitlines():
        _, tid, state, body = line.split()
        found.append(Handler(tid=int(tid), state=PatchState(int(state)), body=body))
    return found


@pytest.mark.behaviour("ST-05")
def test_handler_has_the_state_of_its_task(
    guest: Machine, livepatch: Livepatch, tasks: Tasks
) -> None:
    """The handler that interrupts a task in state 0 runs the old body, elsewhere the new one.

    A busy kthread in another function of the patch keeps state 0, while all others are switched.
    """
    livepatch.load_target(TARGET)
    (busy,) = tasks.find(TARGET)
    patch = livepatch.load(PATCH, object=TARGET, function="klp_irq_text", function2="klp_irq_loop")
    tasks.wait_all(PatchState.PATCHED, held_by=busy)
    seen: list[Handler] = []

    def has_interrupted_both() -> bool:
        seen.extend(interrupt(guest))
        return any(handler.tid == busy.tid for handler in seen) and any(
            handler.state is PatchState.PATCHED for handler in seen
        )

    assert wait_until(has_interrupted_both, scaled(guest, QUICK_S), interval_s=0)
    wrong = [
        handler
        for handler in seen
        if handler.body != (OLD if handler.state is PatchState.UNPATCHED else NEW)
    ]
    assert not wrong
    assert {handler.state for handler in seen if handler.tid == busy.tid} == {PatchState.UNPATCHED}
    assert patch.in_transition
    guest.write(STOP, "1\n")
    patch.wait_complete()
    assert {handler.body for handler in interrupt(guest)} == {NEW}
