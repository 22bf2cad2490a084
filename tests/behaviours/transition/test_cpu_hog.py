# SPDX-License-Identifier: GPL-2.0-only
"""A CPU that no kworker gets: the end of a transition waits there, with the livepatch lock held."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

import pytest

from harness.livepatch.gates import Gates
from harness.livepatch.patch import Livepatch
from harness.livepatch.tasks import PatchState, Tasks
from harness.livepatch.waiting import TRANSITION_S, scaled

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from harness.vm.guest.machine import Machine

SPINNER, PATCH, MODULE = "klp_target_ticks", "klp_test_gate", "klp_target_mod"
FIRST_CPU = "1"  # a mask, as taskset(1) takes it

# Arguments: the sleeper, the patch's directory, a command, and a function. Keeps the second CPU
# busy and opens the sleeper's gate. Once the end of the transition waits for that CPU, it starts
# the command, and prints "waits" when that sleeps in the function, on its way to the lock. Then it
# leaves the CPU, and prints how the command ended. All of it in the guest, whose network may stop
# with a busy CPU.
_HELD = """
spin=/sys/kernel/klp_ticks/spin
stacks() { cat /proc/[0-9]*/stack 2>/dev/null; }
taskset -p 1 $1 >/dev/null
taskset 2 sh -c "echo 1 >$spin" &
while [ "$(cat $spin)" != 1 ]; do sleep 0.1; done
echo open 0 >/dev/klp_gate
until stacks | grep -q schedule_on_each_cpu || [ "$(cat $spin)" != 1 ]; do sleep 0.1; done
sh -c "$3" 2>/said &
command=$!
until stacks | grep -q "$4" || [ "$(cat $spin)" != 1 ]; do sleep 0.1; done
[ "$(cat $2/transition)" != 1 ] || [ "$(cat $spin)" != 1 ] || echo waits
echo 0 >$spin
wait $command
echo "code $?"
"""


class Asked(StrEnum):
    """What is asked of livepatch meanwhile: the function in which it waits for the lock."""

    DISABLE = "enabled_store"
    FORCE = "force_store"
    LOAD = "klp_module_coming"


@pytest.mark.smp(2)
@pytest.mark.behaviour("TR-37")
@pytest.mark.parametrize("asked", Asked, ids=lambda asked: asked.name.lower())
def test_end_waits_for_a_cpu(
    guest: Machine,
    livepatch: Livepatch,
    sample_modules: Mapping[str, Path],
    tasks: Tasks,
    gate: Gates,
    asked: Asked,
) -> None:
    """What needs the lock waits as long as a task keeps the CPU, and then does its work.

    The kernel ends the transition on the CPU of its first try: not on the busy one.
    """
    livepatch.load_target(SPINNER, ticking=False)
    sleeper = gate.enter()
    load = f"exec insmod {guest.upload(sample_modules[PATCH])}"
    loading = guest.spawn("taskset", FIRST_CPU, "sh", "-c", load)
    assert loading.wait(scaled(guest, TRANSITION_S)) == 0
    patch = livepatch.patch(PATCH)
    tasks.wait_all(PatchState.PATCHED, held_by=sleeper)
    if asked is Asked.LOAD:
        command = f"exec insmod {guest.upload(sample_modules[MODULE])}"
    else:
        value, name = ("0", "enabled") if asked is Asked.DISABLE else ("1", "force")
        command = f"echo {value} >{patch.path}/{name}"
    held = guest.spawn(
        "taskset", FIRST_CPU, "sh", "-c", _HELD, "held",
        str(sleeper.tid), patch.path, command, asked.value,
    )  # fmt: skip
    # Once the transition has ended, there is none to be forced.
    code = 1 if asked is Asked.FORCE else 0
    assert list(held.lines(scaled(guest, TRANSITION_S))) == ["waits", f"code {code}"]
    if asked is Asked.DISABLE:
        patch.wait_gone()
        return
    patch.wait_complete()
    assert patch.enabled
    assert livepatch.module(MODULE).loaded is (asked is Asked.LOAD)
