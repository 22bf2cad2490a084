# SPDX-License-Identifier: GPL-2.0-only
"""Thousands of tasks that sleep in a patched function: each attempt checks all their stacks.

klp_try_complete_transition() (kernel/livepatch/transition.c) does so with tasklist_lock read-held,
and a task that forks or exits meanwhile waits for it with interrupts off.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from harness.deadline import wait_until
from harness.errors import HarnessError
from harness.livepatch.waiting import TRANSITION_S, scaled
from harness.tools.race.reproducer import reproducer
from harness.tools.race.reproducers.crowd import BROKEN
from harness.tools.race.reproducers.storm import end_storm, expect_settled, start_storm

if TYPE_CHECKING:
    from random import Random

    from harness.livepatch.gates import Gates
    from harness.livepatch.patch import Livepatch
    from harness.livepatch.tasks import Tasks
    from harness.vm.guest.machine import Machine
    from harness.vm.guest.spawned import SpawnedProcess

_GATE = 0
_LEAST, _MOST = 1000, 2500
_LOCKUP = rf"{BROKEN}|soft lockup|hard LOCKUP|rcu\S* (self-)?detected .*stall|blocked for more than"


@reproducer("crowd-sleepers", rule="TR-15", shows=_LOCKUP, chance=True)
def crowd_sleepers(
    guest: Machine, livepatch: Livepatch, gates: Gates, tasks: Tasks, chance: Random
) -> None:
    """Thousands sleep in the patched function while others fork: tasklist_lock is held long."""
    number = chance.randint(_LEAST, _MOST)
    # By default a guest of little memory may have fewer threads (kernel/fork.c).
    guest.write("/proc/sys/kernel/threads-max", f"{2 * _MOST}\n")
    gates.close(_GATE)
    deadline = scaled(guest, 2 * TRANSITION_S)
    sleepers = guest.spawn("klp-sleepers", str(number), str(_GATE))
    _expect(sleepers, "entering", number, sleepers.next_line(deadline))
    if not wait_until(lambda: len(gates[_GATE].waiting()) == number, deadline, interval_s=0.5):
        raise HarnessError(
            f"{len(gates[_GATE].waiting())} of {number} tasks sleep in gate {_GATE}",
            hint="the guest gets too little CPU time: use fewer --guests",
        )
    storm = start_storm(guest)
    patch = livepatch.load("klp_test_gate")
    in_new_body = gates[1].enter()
    # Back and forth: each start of a transition goes through all tasks as well.
    for _ in range(2):
        patch.reverse()
    guest.write("/dev/klp_gate", f"open {_GATE}\n")
    sleepers.close_stdin()
    in_new_body.release()
    patch.wait_complete(deadline)
    _expect(sleepers, "left", number, sleepers.next_line(deadline))
    end_storm(guest, storm)
    expect_settled(tasks)


def _expect(sleepers: SpawnedProcess, key: str, number: int, line: str) -> None:
    if json.loads(line) != {key: number}:
        raise HarnessError(
            f"klp-sleepers ({sleepers.pid}) printed {line!r}, and not that {number} are {key}"
        )
