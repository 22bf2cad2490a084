# SPDX-License-Identifier: GPL-2.0-only
"""A stack with more frames than the check of stacks takes (MAX_STACK_ENTRIES)."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest

from harness.livepatch.blockers import Blocker
from harness.livepatch.gates import Gates
from harness.livepatch.kernel_log import KernelLog
from harness.livepatch.patch import Livepatch
from harness.livepatch.tasks import PatchState, TaskHandle, Tasks
from harness.livepatch.waiting import QUICK_S, scaled

if TYPE_CHECKING:
    from harness.livepatch.guest import GuestProcess
    from harness.vm.guest.machine import Machine

DYNAMIC_DEBUG = "/sys/kernel/debug/dynamic_debug/control"
TARGET, PATCH = "klp_target_deep", "klp_test_cmdline_a"
PLAIN = 5  # a gate that no patch touches
# kernel/livepatch/transition.c: MAX_STACK_ENTRIES
MOST = 100
FITS, TOO_DEEP = 80, 120
DEEPER, SHALLOWER = 30, range(8, 32)


def enter(guest: Machine, livepatch: Livepatch, gate: Gates, depth: int) -> GuestProcess:
    """Start a task that sleeps below so many frames."""
    livepatch.load_target(TARGET, depth=depth)
    gate.close(PLAIN)
    reader = guest.spawn("cat", "/sys/kernel/klp_deep/sleep")
    gate[PLAIN].await_task(reader.pid)
    return reader


def leave(guest: Machine, gate: Gates, reader: GuestProcess) -> int:
    """Let it go on; return how many of the calls have returned."""
    gate.open(PLAIN)
    return int(reader.next_line(scaled(guest, QUICK_S)))


@pytest.mark.behaviour("TR-35")
def test_stack_that_is_too_deep(
    guest: Machine, livepatch: Livepatch, tasks: Tasks, gate: Gates, kernel_log: KernelLog
) -> None:
    """Its task is not switched, try after try, although no patched function is on the stack."""
    guest.write(DYNAMIC_DEBUG, "file kernel/livepatch/transition.c +p\n")
    reader = enter(guest, livepatch, gate, TOO_DEEP)
    sleeper: TaskHandle = tasks.get(reader.pid)
    patch = livepatch.load(PATCH)
    tasks.wait_all(PatchState.PATCHED, held_by=sleeper)
    kernel_log.wait_for(rf":{sleeper.tid} has an unreliable stack")
    assert sleeper.patch_state is PatchState.UNPATCHED
    assert patch.in_transition
    assert leave(guest, gate, reader) == TOO_DEEP
    patch.wait_complete()


@pytest.mark.behaviour("TR-35")
def test_nothing_is_logged(
    guest: Machine, livepatch: Livepatch, tasks: Tasks, gate: Gates, kernel_log: KernelLog
) -> None:
    """Unless debug messages of the core are asked for, the log does not name the task."""
    reader = enter(guest, livepatch, gate, TOO_DEEP)
    patch = livepatch.load(PATCH)
    tasks.wait_all(PatchState.PATCHED, held_by=tasks.get(reader.pid))
    assert leave(guest, gate, reader) == TOO_DEEP
    patch.wait_complete()
    assert not kernel_log.matching("unreliable stack")


@pytest.mark.behaviour("TR-35")
def test_stack_that_fits(guest: Machine, livepatch: Livepatch, tasks: Tasks, gate: Gates) -> None:
    """A stack of many frames that the check can take does not hold the transition."""
    reader = enter(guest, livepatch, gate, FITS)
    livepatch.load(PATCH, wait=True)
    assert tasks.states() == {PatchState.UNDEFINED}
    assert gate.waiting(PLAIN) == [reader.pid]
    assert leave(guest, gate, reader) == FITS


@pytest.mark.slow(10)
@pytest.mark.behaviour("TR-52")
def test_frames_of_the_task_before(
    guest: Machine, livepatch: Livepatch, tasks: Tasks, gate: Gates
) -> None:
    """A task is judged by its own stack, and not by what is left of a deeper one beside it.

    The kernel reads each stack into the same array. Of the tasks that it checks after the reader of
    ``sleep``, one has as many frames as that reader has below the patched function.
    """
    reader = enter(guest, livepatch, gate, DEEPER)
    others = []
    for depth in SHALLOWER:
        guest.write(f"/sys/module/{TARGET}/parameters/depth", f"{depth}\n")
        others.append(guest.spawn("cat", "/sys/kernel/klp_deep/other"))
        gate[PLAIN].await_task(others[-1].pid)
    holder = tasks.get(reader.pid)
    below = next(n for n, line in enumerate(holder.stack()) if "sleep_show" in line)
    assert below in {len(tasks.get(process.pid).stack()) for process in others}
    patch = livepatch.load("klp_test_symbol", object=TARGET, function="sleep_show")
    tasks.wait_all(PatchState.PATCHED, held_by=holder)
    assert patch.blockers() == [Blocker(holder, in_function="sleep_show")]
    assert leave(guest, gate, reader) == DEEPER
    assert [process.wait(scaled(guest, QUICK_S)) for process in others] == [0] * len(others)
    patch.wait_complete()


@pytest.mark.needs("CONFIG_KRETPROBES")
@pytest.mark.behaviour("TR-35")
def test_as_many_frames_as_fit(
    guest: Machine, livepatch: Livepatch, tasks: Tasks, gate: Gates
) -> None:
    """A stack that fills what the check takes counts as cut off; one frame less is whole."""
    target = livepatch.load_target(TARGET, watch=True)
    patch = livepatch.patch(PATCH)
    # Frames below and above the calls: of the read, of the sleep.
    others = 0
    for frames in (FITS, MOST - 1, MOST):
        depth = frames - others
        guest.write(f"/sys/module/{TARGET}/parameters/depth", f"{depth}\n")
        gate.close(PLAIN)
        reader = guest.spawn("cat", "/sys/kernel/klp_deep/sleep")
        gate[PLAIN].await_task(reader.pid)
        livepatch.load(PATCH, wait=frames < MOST)
        if frames == MOST:
            tasks.wait_all(PatchState.PATCHED, held_by=tasks.get(reader.pid))
        found = int(target.parameter("frames"))
        if frames == FITS:
            others = found - depth
        else:
            assert found == (frames if frames < MOST else -errno.EINVAL)
        assert leave(guest, gate, reader) == depth
        patch.wait_complete()
        patch.disable()
        patch.unload()
