# SPDX-License-Identifier: GPL-2.0-only
"""User workers (PF_USER_WORKER): threads of a process that are never in user mode."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from harness.deadline import wait_until
from harness.livepatch.blockers import Blocker
from harness.livepatch.gates import Gates
from harness.livepatch.kernel_log import KernelLog
from harness.livepatch.patch import Livepatch
from harness.livepatch.tasks import PatchState, TaskHandle, Tasks
from harness.livepatch.waiting import QUICK_S, scaled

if TYPE_CHECKING:
    from harness.livepatch.guest import GuestProcess
    from harness.vm.guest.machine import Machine

PATCH, PROGRAM = "klp_test_gate", "klp-uring"
PLAIN = 5  # a gate that no patch touches
SIGNALLED = "signaling remaining tasks"

pytestmark = pytest.mark.needs("CONFIG_IO_URING")


def enter(
    guest: Machine, tasks: Tasks, gate: Gates, number: int
) -> tuple[GuestProcess, TaskHandle]:
    """Let a worker of io_uring enter a gate; return its process, and the worker."""
    gate.close(number)
    process = guest.spawn(PROGRAM, str(number))
    assert json.loads(process.next_line(scaled(guest, QUICK_S))) == {"submitted": number}
    assert wait_until(lambda: bool(gate.waiting(number)), scaled(guest, QUICK_S))
    (tid,) = gate.waiting(number)
    worker = tasks.get(tid)
    assert worker.pid == process.pid
    assert worker.tid != process.pid, "the read was not made by a worker"
    assert worker.comm.startswith("iou-wrk-")
    return process, worker


def completed(guest: Machine, process: GuestProcess) -> int:
    """Return the result of its read: a number of bytes."""
    return int(json.loads(process.next_line(scaled(guest, QUICK_S)))["completed"])


@pytest.mark.behaviour("TR-34")
def test_worker_outside(
    guest: Machine, livepatch: Livepatch, tasks: Tasks, gate: Gates, kernel_log: KernelLog
) -> None:
    """A worker that sleeps in no patched function is switched where it sleeps."""
    process, worker = enter(guest, tasks, gate, PLAIN)
    patch = livepatch.load(PATCH, wait=True)
    assert worker.patch_state is PatchState.UNDEFINED
    patch.disable()
    patch.unload()
    assert gate.waiting(PLAIN) == [worker.tid]
    assert not kernel_log.matching(SIGNALLED)
    gate.open(PLAIN)
    assert completed(guest, process) > 0


@pytest.mark.behaviour("TR-34")
def test_worker_inside(
    guest: Machine, livepatch: Livepatch, tasks: Tasks, gate: Gates, kernel_log: KernelLog
) -> None:
    """A worker in a patched function holds the transition, and switches once it has left it.

    It does not pass the kernel's exit to user mode: it is switched where it waits for more work.
    """
    process, worker = enter(guest, tasks, gate, 0)
    patch = livepatch.load(PATCH)
    tasks.wait_all(PatchState.PATCHED, held_by=worker)
    assert patch.blockers() == [Blocker(worker, in_function="klp_gate_wait")]
    gate.open(0)
    assert completed(guest, process) > 0
    patch.wait_complete()
    assert worker.alive
    assert not kernel_log.matching(SIGNALLED)
