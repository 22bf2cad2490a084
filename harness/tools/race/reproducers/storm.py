# SPDX-License-Identifier: GPL-2.0-only
"""Many forks at once, in the hope that one meets a transition. A campaign gives them time."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from harness.errors import HarnessError, RaceShown
from harness.livepatch.tasks import PatchState
from harness.livepatch.waiting import QUICK_S, scaled
from harness.tools.race.reproducer import reproducer

if TYPE_CHECKING:
    from random import Random

    from harness.livepatch.gates import Gates
    from harness.livepatch.patch import Livepatch
    from harness.livepatch.tasks import Tasks
    from harness.vm.guest.machine import Machine
    from harness.vm.guest.spawned import SpawnedProcess

PATCH = "klp_test_gate"
LIVEPATCH_WARNS = r"WARNING: .*(\bklp_|kernel/livepatch/)"
_STORMS = 2
_CYCLES = 2
_MOST_REVERSALS = 4


@reproducer("storm-fork", rule="FO-07", shows=LIVEPATCH_WARNS, chance=True)
def storm_fork(
    guest: Machine, livepatch: Livepatch, gates: Gates, tasks: Tasks, chance: Random
) -> None:
    """Tasks fork all the time while a patch is enabled, reversed and disabled repeatedly."""
    storms = [start_storm(guest) for _ in range(_STORMS)]
    for _ in range(_CYCLES):
        in_old_body = gates[0].enter()
        patch = livepatch.load(PATCH)
        in_new_body = gates[1].enter()
        reversals = chance.randint(1, _MOST_REVERSALS)
        for _ in range(reversals):
            patch.reverse()
        in_old_body.release()
        in_new_body.release()
        patch.wait_complete()
        if reversals % 2 == 0:
            expect_settled(tasks)
            patch.disable()
        patch.unload()
        expect_settled(tasks)
    for storm in storms:
        end_storm(guest, storm)


def expect_settled(tasks: Tasks) -> None:
    """Raise RaceShown when a task has a patch state though no transition runs."""
    left = [
        f"task {task.tid} ({task.comm}): patch state {task.patch_state}"
        for task in tasks.sample().tasks
        if task.patch_state not in (None, PatchState.UNDEFINED)
    ]
    if left:
        raise RaceShown(
            f"{len(left)} tasks still have a patch state after the transition's end",
            details=tuple(left),
        )


def start_storm(guest: Machine) -> SpawnedProcess:
    """Start a program that forks without a pause; returns when it forks. Raises TimeoutError."""
    storm = guest.spawn("klp-storm")
    storm.next_line(scaled(guest, QUICK_S))
    return storm


def end_storm(guest: Machine, storm: SpawnedProcess) -> None:
    """End the program; raises HarnessError when it failed, or left a child."""
    storm.close_stdin()
    deadline = scaled(guest, QUICK_S)
    counts = json.loads(storm.next_line(deadline))
    code = storm.wait(deadline)
    if code or counts["forks"] != counts["reaped"]:
        raise HarnessError(f"klp-storm ended with code {code} and printed {counts}")
