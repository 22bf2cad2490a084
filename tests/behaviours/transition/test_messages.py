# SPDX-License-Identifier: GPL-2.0-only
"""What the kernel logs of tasks that it cannot switch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.deadline import wait_until
from harness.livepatch.gates import Gates
from harness.livepatch.kernel_log import KernelLog
from harness.livepatch.patch import Livepatch
from harness.livepatch.tasks import PatchState, Tasks

if TYPE_CHECKING:
    from harness.vm.guest.machine import Machine

DYNAMIC_DEBUG = "/sys/kernel/debug/dynamic_debug/control"
CONSOLE = "klp_test_console"
ALL_LEVELS = "8"
LINES = 3
PLAIN = 5  # a gate that no patch touches


@pytest.mark.needs("CONFIG_DYNAMIC_DEBUG")
@pytest.mark.behaviour("TR-47")
def test_printed_without_the_lock(
    guest: Machine, livepatch: Livepatch, tasks: Tasks, gate: Gates
) -> None:
    """A console that prints why a task was not switched finds the locks of that task free.

    klp_try_switch_task() logs after it has released them (f36e6645): with a run queue's lock held,
    printk() can dead-lock, since it may have to wake a task that waits for the console.
    """
    console = livepatch.load_target(CONSOLE)
    guest.write(DYNAMIC_DEBUG, "file kernel/livepatch/transition.c +p\n")
    guest.write("/proc/sys/kernel/printk", ALL_LEVELS)
    sleeper = gate.enter()
    patch = livepatch.load("klp_test_gate")
    tasks.wait_all(PatchState.PATCHED, held_by=sleeper)
    assert wait_until(
        lambda: int(console.parameter("lines")) >= LINES, guest.scaled(20), interval_s=0.5
    ), "the console has not printed the kernel's reasons"
    sleeper.release()
    patch.wait_complete()
    assert int(console.parameter("locked")) == 0


@pytest.mark.needs("CONFIG_DYNAMIC_DEBUG")
@pytest.mark.behaviour("TR-51")
def test_one_reason_for_who_is_held(
    guest: Machine, livepatch: Livepatch, tasks: Tasks, gate: Gates, kernel_log: KernelLog
) -> None:
    """The log has one reason for a task in a try, and none for a task that is switched."""
    guest.write(DYNAMIC_DEBUG, "file kernel/livepatch/transition.c +p\n")
    held, free = gate.enter(), gate.enter(PLAIN)
    patch = livepatch.load("klp_test_gate")
    tasks.wait_all(PatchState.PATCHED, held_by=held)
    reason = f":{held.tid} is sleeping on function klp_gate_wait"
    assert wait_until(
        lambda: len(kernel_log.matching(f"{reason}$")) >= LINES, guest.scaled(20), interval_s=0.5
    ), "the log has no reasons"
    said = [record.text for record in kernel_log.matching(f":({held.tid}|{free.tid})( |$)")]
    assert [text for text in said if not text.endswith(reason)] == []
    held.release()
    free.release()
    patch.wait_complete()
