# SPDX-License-Identifier: GPL-2.0-only
"""Patches of up to hundreds of functions, in guests of up to thousands of tasks."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from harness.deadline import wait_until
from harness.livepatch.blockers import Blocker
from harness.livepatch.gates import Gates
from harness.livepatch.patch import Livepatch
from harness.livepatch.tasks import PatchState, Tasks

if TYPE_CHECKING:
    from harness.vm.guest.machine import Machine

TARGET, PATCH = "klp_target_many", "klp_test_many"
BODIES, HOLD = "/sys/kernel/klp_many/bodies", "/sys/kernel/klp_many/hold"
MANY, FIRST = 400, 1000
HOLD_GATE, CROWD_GATE = 5, 6
LONG_S = 120


@pytest.mark.behaviour("TR-38")
@pytest.mark.slow(50)
@pytest.mark.parametrize(("functions", "sleepers"), [(10, 1000), (MANY, 10)])
def test_many_functions_and_tasks(
    guest: Machine, livepatch: Livepatch, tasks: Tasks, gate: Gates, functions: int, sleepers: int
) -> None:
    """All functions of a patch change together, and the last one is looked for on each stack.

    A task in the last function alone holds the transition, however many others sleep elsewhere.
    The kernel waits for a grace period for each function that it unpatches: slow is not stuck.
    """
    deadline = guest.scaled(LONG_S)
    guest.write("/proc/sys/kernel/threads-max", "20000\n")
    livepatch.load_target(TARGET, held=FIRST + functions - 1)
    gate.close(CROWD_GATE)
    crowd = guest.spawn("klp-sleepers", str(sleepers), str(CROWD_GATE))
    assert json.loads(crowd.next_line(deadline)) == {"entering": sleepers}
    assert wait_until(
        lambda: len(gate.waiting(CROWD_GATE)) == sleepers, deadline, interval_s=0.5
    ), f"{len(gate.waiting(CROWD_GATE))} of {sleepers} tasks sleep"
    gate.close(HOLD_GATE)
    reader = guest.spawn("cat", HOLD)
    gate[HOLD_GATE].await_task(reader.pid)
    holder = tasks.get(reader.pid)
    patch = livepatch.load(PATCH, functions=functions, deadline=deadline)
    tasks.wait_all(PatchState.PATCHED, held_by=holder)
    last = f"klp_many_{FIRST + functions - 1}"
    assert patch.blockers() == [Blocker(holder, in_function=last)]
    assert guest.read(BODIES).strip() == "p" * functions + "o" * (MANY - functions)
    gate.open(HOLD_GATE)
    patch.wait_complete(deadline)
    assert reader.wait(deadline) == 0
    assert guest.read(BODIES).strip() == "p" * functions + "o" * (MANY - functions)
    patch.disable(deadline=deadline)
    patch.unload(deadline)
    assert guest.read(BODIES).strip() == "o" * MANY
    gate.open(CROWD_GATE)
    crowd.close_stdin()
    assert json.loads(crowd.next_line(deadline)) == {"left": sleepers}
