# SPDX-License-Identifier: GPL-2.0-only
"""The functions of a patch change together for each task: the consistency model."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING, Any

import pytest

from harness.livepatch.gates import Gates
from harness.livepatch.kernel_log import KernelLog
from harness.livepatch.patch import Livepatch
from harness.livepatch.tasks import PatchState, Tasks

if TYPE_CHECKING:
    from harness.vm.guest.machine import Machine
    from harness.vm.guest.spawned import SpawnedProcess

TARGET = "klp_target_pair"
PATCH = "klp_test_pair"
SYSFS = "/sys/kernel/klp_pair"
BETWEEN = 5  # the gate between the two functions
OLD = "f original g original"
NEW = "f patched g patched"
KTHREADS = 2
ROUNDS = 2


@pytest.mark.behaviour("TR-03")
def test_task_between_the_two(
    guest: Machine, livepatch: Livepatch, tasks: Tasks, gate: Gates
) -> None:
    """A task in the old f calls the old g, while others call both new ones; and the reverse.

    The transition is reversed while another task is in the new f.
    """
    livepatch.load_target(TARGET)
    gate.close(BETWEEN)
    in_old = guest.spawn("cat", f"{SYSFS}/gate")
    gate[BETWEEN].await_task(in_old.pid)
    patch = livepatch.load(PATCH)
    old_task = tasks.get(in_old.pid)
    tasks.wait_all(PatchState.PATCHED, held_by=old_task)
    assert guest.read(f"{SYSFS}/nap").strip() == NEW

    in_new = guest.spawn("cat", f"{SYSFS}/gate")
    gate[BETWEEN].await_task(in_new.pid)
    new_task = tasks.get(in_new.pid)
    patch.reverse()
    tasks.wait_all(PatchState.UNPATCHED, held_by=new_task)
    assert guest.read(f"{SYSFS}/nap").strip() == OLD
    gate.open(BETWEEN)
    assert in_old.next_line(guest.scaled(10)) == OLD
    assert in_new.next_line(guest.scaled(10)) == NEW
    patch.wait_gone()


@pytest.mark.slow(11)
@pytest.mark.behaviour("TR-03")
def test_no_mixed_pair_under_load(
    guest: Machine, livepatch: Livepatch, gate: Gates, kernel_log: KernelLog
) -> None:
    """Tasks that call both functions all the time, and pause in between, get no mixed pair.

    User tasks and kernel threads do so while the patch is enabled and disabled again and again.
    """
    assert gate.is_open(BETWEEN)
    livepatch.load_target(TARGET, kthreads=KTHREADS)
    callers = [_Caller(guest, pause) for pause in ("nap", "nap", "spin")]
    for _ in range(ROUNDS):
        for caller in callers:
            caller.wait_for(OLD)
        patch = livepatch.load(PATCH, wait=True)
        for caller in callers:
            caller.wait_for(NEW)
        patch.disable()
        patch.unload()
    for caller in callers:
        caller.end()
    mixed = [f"[{record.us} us] {record.text}" for record in kernel_log.matching("mixed pair")]
    assert not mixed, "\n".join(mixed)
    words = guest.read(f"{SYSFS}/kthreads").split()
    made = {kind: int(count) for kind, count in zip(words[::2], words[1::2], strict=True)}
    assert made["mixed"] == 0
    assert made["original"], "the kernel threads made no call of the old pair"
    assert made["patched"], "the kernel threads made no call of the new pair"


class _Caller:
    """A task that calls without a pause; each pair that it gets is checked."""

    def __init__(self, guest: Machine, pause: str) -> None:
        self._guest = guest
        self._process: SpawnedProcess = guest.spawn("klp-caller", f"{SYSFS}/{pause}", "0")

    def wait_for(self, wanted: str) -> None:
        """Wait until it gets that pair."""
        deadline = self._guest.scaled(20)
        while self._judged(json.loads(self._process.next_line(deadline))) != wanted:
            pass

    def end(self) -> None:
        """End it and check the pairs since the last check."""
        self._process.signal(signal.SIGTERM)
        *calls, last = [json.loads(line) for line in self._process.lines(self._guest.scaled(20))]
        for call in calls:
            self._judged(call)
        assert last["calls"] > 0

    def _judged(self, call: dict[str, Any]) -> str:
        text = str(call["text"]).strip()
        states = (call["patch_state_before"], call["patch_state_after"])
        seen = f"task {self._process.pid} at {call['t_us']} us, patch state {states}: {text}"
        assert text in {OLD, NEW}, f"a mixed pair: {seen}"
        if states == (0, 0):
            assert text == OLD, seen
        if states == (1, 1):
            assert text == NEW, seen
        return text
