# SPDX-License-Identifier: GPL-2.0-only
"""``force`` and the lock of the livepatch subsystem."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.agent_protocol import Op
from harness.deadline import Deadline
from harness.livepatch.gates import Gates
from harness.livepatch.kernel_log import KernelLog
from harness.livepatch.patch import Livepatch
from harness.livepatch.waiting import poll

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from harness.vm.guest.machine import Machine

PATCH = "klp_test_slow_callback"
CALLBACK_GATE = 6
DYNAMIC_DEBUG = "/sys/kernel/debug/dynamic_debug/control"
FORCING, FORCING_MS = "klp_force_transition", 2000


@pytest.mark.behaviour("FC-07")
def test_force_waits_for_the_lock(
    guest: Machine,
    livepatch: Livepatch,
    gate: Gates,
    kernel_log: KernelLog,
    sample_modules: Mapping[str, Path],
) -> None:
    """``force`` waits for the lock while a post_patch callback sleeps, and then forces nothing."""
    deadline = Deadline.after(120)
    gate.close(CALLBACK_GATE)
    # The callback may run in the task that loads, so that must not be this test.
    loading = guest.spawn("/sbin/insmod", guest.upload(sample_modules[PATCH]))
    waiting = "/proc/klp_gate_waiting"
    assert poll(guest, waiting, Op.CONTAINS, f"{CALLBACK_GATE} ", deadline=deadline)
    patch = livepatch.patch(PATCH)
    assert patch.in_transition
    writer = guest.spawn("sh", "-c", 'exec echo 1 >"$1"', "force", f"{patch.path}/force")
    assert poll(guest, f"/proc/{writer.pid}/stack", Op.CONTAINS, "force_store", deadline=deadline)
    assert len(gate.waiting(CALLBACK_GATE)) == 1
    assert not kernel_log.matching("callback post_patch")
    assert not kernel_log.matching("forcing remaining tasks")
    gate.open(CALLBACK_GATE)
    assert loading.wait(deadline) == 0
    assert writer.wait(deadline) != 0, "EINVAL was due: no transition was left to force"
    patch.wait_complete()
    assert kernel_log.matching("callback post_patch vmlinux")
    assert not kernel_log.matching("forcing remaining tasks")
    patch.disable()
    patch.unload()


@pytest.mark.needs("CONFIG_KPROBES")
@pytest.mark.needs("CONFIG_DYNAMIC_DEBUG")
@pytest.mark.behaviour("FC-07")
def test_force_keeps_the_lock(
    guest: Machine, livepatch: Livepatch, gate: Gates, kernel_log: KernelLog
) -> None:
    """A reverse that is asked for while a transition is being forced waits for its end.

    The CPU that forces is held at the beginning of klp_force_transition().
    """
    deadline = Deadline.after(120)
    guest.write(DYNAMIC_DEBUG, "file kernel/livepatch/transition.c +p\n")
    livepatch.load_target("klp_test_hold", arm=FORCING, release=FORCING, wait_ms=FORCING_MS)
    gate.enter()
    patch = livepatch.load("klp_test_gate")
    guest.write("/sys/module/klp_test_hold/parameters/on", "1")
    forcing = guest.spawn("sh", "-c", 'exec echo 1 >"$1"', "force", f"{patch.path}/force")
    armed = "/sys/module/klp_test_hold/parameters/armed"
    assert poll(guest, armed, Op.EQUALS, "1", deadline=deadline)
    reversing = guest.spawn("sh", "-c", 'exec echo 0 >"$1"', "reverse", f"{patch.path}/enabled")
    reversing.wait(deadline)
    assert forcing.wait(deadline) == 0
    # After it, the transition may be over: then nothing is left to reverse.
    words = "forcing remaining|reversing transition"
    log = [record.text for record in kernel_log.matching(words)]
    assert "forcing" in log[0], log
