# SPDX-License-Identifier: GPL-2.0-only
"""A task that has not switched runs the previous patch's body (kernel/livepatch/patch.c)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.livepatch.gates import Gates
from harness.livepatch.patch import Livepatch

if TYPE_CHECKING:
    from harness.vm.guest.machine import Machine


@pytest.mark.behaviour("ST-02")
def test_previous_body_and_not_the_original(
    guest: Machine, livepatch: Livepatch, gate: Gates
) -> None:
    """With two patches of f, a task in state 0 runs the lower patch's body, not the original.

    One read(2) of two pages goes through gates 0 and 1. The reader sleeps in the lower patch's body
    while the upper one is loaded, and calls the function again in the same system call.
    """
    livepatch.load("klp_test_gate", wait=True)
    gate.close(0)
    gate.close(1)
    reader = guest.spawn("dd", "if=/dev/klp_gate", "bs=8192", "count=1")
    gate[0].await_task(reader.pid)
    upper = livepatch.load("klp_test_gate_callbacks")
    gate.open(0)
    gate[1].await_task(reader.pid)
    assert upper.in_transition
    stack = guest.stack(reader.pid)
    assert "[klp_test_gate]" in stack
    assert "[klp_test_gate_callbacks]" not in stack
    other = gate.enter(2)
    assert "[klp_test_gate_callbacks]" in guest.stack(other.tid)
    gate.open()
    upper.wait_complete()
