# SPDX-License-Identifier: GPL-2.0-only
"""A write to an attribute of a livepatch that is about to go: refused, or replaced."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest

from harness.agent_protocol import Op
from harness.deadline import Deadline
from harness.livepatch.gates import Gates
from harness.livepatch.patch import Livepatch
from harness.livepatch.waiting import poll

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from harness.livepatch.guest import GuestProcess
    from harness.vm.guest.machine import Machine

PATCH, OTHER = "klp_test_slow_callback", "klp_test_cmdline_a"
CALLBACK_GATE = 6


@pytest.mark.behaviour("SY-06")
def test_write_that_waits_for_the_lock(
    guest: Machine, livepatch: Livepatch, gate: Gates, sample_modules: Mapping[str, Path]
) -> None:
    """The directory is removed without the lock that the write waits for, so both of them end."""
    deadline = Deadline.after(60)
    module = guest.upload(sample_modules[PATCH])
    gate.close(CALLBACK_GATE)
    loading = guest.spawn("/sbin/insmod", module, f"pre_patch_ret=-{errno.ENODEV}")
    writer = _disable(guest, PATCH, deadline)
    gate.open(CALLBACK_GATE)
    assert loading.wait(deadline) != 0, "ENODEV was due"
    assert writer.wait(deadline) != 0, "EINVAL was due: the patch is not enabled"
    assert livepatch.patches() == []
    livepatch.load(OTHER, wait=True)


@pytest.mark.behaviour("SY-06")
def test_write_to_a_replaced_patch(
    guest: Machine, livepatch: Livepatch, gate: Gates, sample_modules: Mapping[str, Path]
) -> None:
    """It has waited for the end of the replace, and finds a patch that is not enabled."""
    deadline = Deadline.after(60)
    module = guest.upload(sample_modules[PATCH])
    old = livepatch.load(OTHER, wait=True)
    gate.close(CALLBACK_GATE)
    loading = guest.spawn("/sbin/insmod", module, "replace=1")
    writer = _disable(guest, OTHER, deadline)
    gate.open(CALLBACK_GATE)
    assert loading.wait(deadline) == 0
    assert writer.wait(deadline) != 0, "EINVAL was due: the patch has been replaced"
    old.wait_gone()
    assert [patch.name for patch in livepatch.patches()] == [PATCH]


def _disable(guest: Machine, name: str, deadline: Deadline) -> GuestProcess:
    """Disable a patch as soon as a callback sleeps; return the writer that waits for the lock."""
    waiting = "/proc/klp_gate_waiting"
    assert poll(guest, waiting, Op.CONTAINS, f"{CALLBACK_GATE} ", deadline=deadline)
    path = f"/sys/kernel/livepatch/{name}/enabled"
    writer = guest.spawn("sh", "-c", 'exec echo 0 >"$1"', "disable", path)
    assert poll(guest, f"/proc/{writer.pid}/stack", Op.CONTAINS, "enabled_store", deadline=deadline)
    return writer
