# SPDX-License-Identifier: GPL-2.0-only
"""Tasks that do not run because they are stopped, traced, parked or frozen."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING

import pytest

from harness.agent_protocol import Op
from harness.livepatch.blockers import Blocker
from harness.livepatch.kernel_log import KernelLog
from harness.livepatch.patch import Livepatch
from harness.livepatch.tasks import PatchState, TaskHandle, Tasks
from harness.livepatch.waiting import QUICK_S, poll, scaled

if TYPE_CHECKING:
    from harness.livepatch.guest import GuestProcess
    from harness.livepatch.patch import Patch
    from harness.vm.guest.machine import Machine

PATCH, OF_STOPPING = "klp_test_cmdline_a", "klp_test_stop"
SIGNALLED = "signaling remaining tasks"
CPU_ONLINE = "/sys/devices/system/cpu/cpu1/online"
CGROUPS, FROZEN = "/cgroups", "/cgroups/frozen"


def await_letter(guest: Machine, task: TaskHandle, letter: str) -> None:
    """Wait until a task has that state of the scheduler."""
    status = f"/proc/{task.tid}/status"
    found = poll(guest, status, Op.CONTAINS, f"State:\t{letter} ", deadline=scaled(guest, QUICK_S))
    assert found, guest.read(status)


def switches_both_ways(livepatch: Livepatch, kernel_log: KernelLog, task: TaskHandle) -> None:
    """Enable and disable a patch; the task is switched where it is, without any signal."""
    letter = task.state
    patch = livepatch.load(PATCH, wait=True)
    assert task.patch_state is PatchState.UNDEFINED
    patch.disable()
    patch.unload()
    assert task.state == letter
    assert not kernel_log.matching(SIGNALLED)


@pytest.fixture
def sleep(guest: Machine) -> GuestProcess:
    """A program that does nothing for a long time."""
    return guest.spawn("sleep", "100000")


@pytest.fixture
def stopped(guest: Machine, tasks: Tasks, sleep: GuestProcess) -> TaskHandle:
    """A task that SIGSTOP has stopped."""
    sleep.signal(signal.SIGSTOP)
    task = tasks.get(sleep.pid)
    await_letter(guest, task, "T")
    return task


@pytest.mark.behaviour("TR-36")
def test_stopped_task(livepatch: Livepatch, kernel_log: KernelLog, stopped: TaskHandle) -> None:
    """A task that SIGSTOP has stopped is switched where it is."""
    switches_both_ways(livepatch, kernel_log, stopped)


@pytest.mark.behaviour("TR-36")
def test_traced_task(
    guest: Machine, livepatch: Livepatch, tasks: Tasks, kernel_log: KernelLog
) -> None:
    """A task that is stopped for its tracer is switched where it is."""
    tracer = guest.spawn("klp-stopped")
    traced = tasks.get(json.loads(tracer.next_line(scaled(guest, QUICK_S)))["traced"])
    assert traced.state == "t"
    switches_both_ways(livepatch, kernel_log, traced)
    tracer.close_stdin()
    assert tracer.wait(scaled(guest, QUICK_S)) == 0


@pytest.mark.behaviour("TR-36")
def test_parked_thread(
    guest: Machine, livepatch: Livepatch, tasks: Tasks, kernel_log: KernelLog
) -> None:
    """A kernel thread that is parked, since its CPU is offline, is switched where it is."""
    (parked,) = tasks.find("ksoftirqd/1")
    guest.write(CPU_ONLINE, "0\n")
    await_letter(guest, parked, "P")
    switches_both_ways(livepatch, kernel_log, parked)
    guest.write(CPU_ONLINE, "1\n")
    assert parked.alive


@pytest.mark.needs("CONFIG_CGROUPS")
@pytest.mark.behaviour("TR-36")
def test_frozen_task(
    guest: Machine,
    livepatch: Livepatch,
    tasks: Tasks,
    kernel_log: KernelLog,
    sleep: GuestProcess,
) -> None:
    """A task in a frozen control group is switched where it is."""
    made = guest.run(["sh", "-c", f"mkdir {CGROUPS} && mount -t cgroup2 none {CGROUPS}"])
    assert made.ok, made.stderr
    assert guest.run(["mkdir", FROZEN]).ok
    guest.write(f"{FROZEN}/cgroup.procs", f"{sleep.pid}\n")
    guest.write(f"{FROZEN}/cgroup.freeze", "1\n")
    events = f"{FROZEN}/cgroup.events"
    assert poll(guest, events, Op.CONTAINS, "frozen 1", deadline=scaled(guest, QUICK_S))
    switches_both_ways(livepatch, kernel_log, tasks.get(sleep.pid))
    assert "frozen 1" in guest.read(events)


@pytest.mark.slow(18)
@pytest.mark.behaviour("TR-36")
def test_patch_of_the_function_that_stops(
    livepatch: Livepatch,
    tasks: Tasks,
    kernel_log: KernelLog,
    sleep: GuestProcess,
    stopped: TaskHandle,
) -> None:
    """A stopped task holds a patch of the function in which it is stopped, until SIGCONT.

    The fake signal does not wake it.
    """
    patch: Patch = livepatch.load(OF_STOPPING)
    tasks.wait_all(PatchState.PATCHED, held_by=stopped)
    assert patch.blockers() == [Blocker(stopped, in_function="do_signal_stop")]
    kernel_log.wait_for(SIGNALLED)
    assert stopped.state == "T"
    assert stopped.patch_state is PatchState.UNPATCHED
    assert patch.in_transition
    sleep.signal(signal.SIGCONT)
    patch.wait_complete()
    assert stopped.alive
