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

    from harness.vm.guest.machine import Machine

PATCH, OTHER = "klp_test_slow_callback", "klp_test_cmdline_a"
CALLBACK_GATE = 6


@pytest.mark.behaviour("SY-06")
def test_write_that_waits_for_the_lock(
    guest: Machine, livepatch: Livepatch, gate: Gates, sample_modules: Mapping[str, Path]
) -> None:
    """The directory is removed without the lock that the write waits for, so both of them end."""
    refuses = f"pre_patch_ret=-{errno.ENODEV}"
    loaded, written = _disabled_in_a_callback(guest, gate, sample_modules, refuses, PATCH)
    assert loaded != 0, "ENODEV was due"
    assert written != 0, "EINVAL was due: the patch is not enabled"
    assert livepatch.patches() == []
    livepatch.load(OTHER, wait=True)


@pytest.mark.behaviour("SY-06")
def test_write_to_a_replaced_patch(
    guest: Machine, livepatch: Livepatch, gate: Gates, sample_modules: Mapping[str, Path]
) -> None:
    """It has waited for the end of the replace, and finds a patch that is not enabled."""
    old = livepatch.load(OTHER, wait=True)
    loaded, written = _disabled_in_a_callback(guest, gate, sample_modules, "replace=1", OTHER)
    assert loaded == 0
    assert written != 0, "EINVAL was due: the patch has been replaced"
    old.wait_gone()
    assert [patch.name for patch in livepatch.patches()] == [PATCH]


def _disabled_in_a_callback(
    guest: Machine, gate: Gates, modules: Mapping[str, Path], parameter: str, name: str
) -> tuple[int, int]:
    """Load PATCH, and disable a patch while its callback sleeps with the lock.

    Returns how the load and the write have ended.
    """
    deadline = Deadline.after(60)
    gate.close(CALLBACK_GATE)
    loading = guest.spawn("/sbin/insmod", guest.upload(modules[PATCH]), parameter)
    waiting = "/proc/klp_gate_waiting"
    assert poll(guest, waiting, Op.CONTAINS, f"{CALLBACK_GATE} ", deadline=deadline)
    path = f"/sys/kernel/livepatch/{name}/enabled"
    writer = guest.spawn("sh", "-c", 'exec echo 0 >"$1"', "disable", path)
    assert poll(guest, f"/proc/{writer.pid}/stack", Op.CONTAINS, "enabled_store", deadline=deadline)
    gate.open(CALLBACK_GATE)
    return loading.wait(deadline), writer.wait(deadline)
