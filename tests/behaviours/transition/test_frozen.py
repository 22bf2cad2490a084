# SPDX-License-Identifier: GPL-2.0-only
"""Tasks that the freezer of control groups has frozen."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.agent_protocol import Op
from harness.livepatch.gates import Body, Gates
from harness.livepatch.patch import Livepatch
from harness.livepatch.tasks import PatchState, Tasks
from harness.livepatch.waiting import poll

if TYPE_CHECKING:
    from harness.vm.guest.machine import Machine

MAKE = "mkdir /cgroup && mount -t cgroup2 none /cgroup && mkdir /cgroup/frozen"
GROUP = "/cgroup/frozen"


@pytest.mark.needs("CONFIG_CGROUPS")
@pytest.mark.behaviour("TR-46")
def test_frozen_task(guest: Machine, livepatch: Livepatch, tasks: Tasks, gate: Gates) -> None:
    """A task that is frozen by its control group is switched where it is, in both directions."""
    made = guest.run(["sh", "-c", MAKE])
    assert made.ok, made.stderr
    blocker = gate.enter(1)
    task = tasks.get(guest.spawn("sleep", "1000").pid)
    guest.write(f"{GROUP}/cgroup.procs", f"{task.pid}\n")
    guest.write(f"{GROUP}/cgroup.freeze", "1\n")
    assert poll(guest, f"{GROUP}/cgroup.events", Op.CONTAINS, "frozen 1", deadline=guest.scaled(10))
    patch = livepatch.load("klp_test_gate")
    tasks.wait_all(PatchState.PATCHED, held_by=blocker)
    assert task.patch_state is PatchState.PATCHED
    assert blocker.release().body is Body.ORIGINAL
    patch.wait_complete()
    patch.disable()
    patch.unload()
    assert "frozen 1" in guest.read(f"{GROUP}/cgroup.events")
    guest.write(f"{GROUP}/cgroup.freeze", "0\n")
    assert task.alive
