# SPDX-License-Identifier: GPL-2.0-only
"""Transitions with tasks that never sleep, and with hardly any free memory."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from harness.deadline import Deadline, wait_until
from harness.livepatch.kernel_log import KernelLog
from harness.livepatch.patch import Livepatch
from harness.livepatch.tasks import PatchState, Tasks

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from harness.vm.guest.machine import Machine
    from harness.vm.kernel.kernel import Kernel

DYNAMIC_DEBUG = "/sys/kernel/debug/dynamic_debug/control"
LOOP = "klp_target_loop"
STOP = f"/sys/module/{LOOP}/parameters/stop"
LOOKS = 3
TRANSITIONS = 6
BY_ITSELF = "switched by itself"
CPUS = 2
SPIN = "while :; do :; done"
PATCH = "klp_test_cmdline_a"
LEFT_MIB = 10


@pytest.mark.behaviour("TR-18")
def test_loop_inside_the_function(
    guest: Machine, livepatch: Livepatch, tasks: Tasks, kernel_log: KernelLog
) -> None:
    """A kernel thread that loops in cond_resched() in a patched function holds the transition.

    Whether it runs or not, it is in the function until it leaves the loop.
    """
    guest.write(DYNAMIC_DEBUG, "file kernel/livepatch/transition.c +p\n")
    livepatch.load_target(LOOP, inside=1)
    (thread,) = tasks.find(LOOP)
    patch = livepatch.load("klp_test_symbol", object=LOOP, function=LOOP)
    tasks.wait_all(PatchState.PATCHED, held_by=thread)
    looked = rf"{LOOP}:{thread.tid} is (running|sleeping on function {LOOP})"
    deadline = Deadline.after(30 * guest.time_scale)
    assert wait_until(
        lambda: len(kernel_log.matching(looked)) >= LOOKS, deadline, interval_s=0.5
    ), "the kernel has not tried again to switch the thread"
    assert thread.patch_state is PatchState.UNPATCHED
    assert patch.in_transition
    assert not kernel_log.matching("switched (by|off)")
    guest.write(STOP, "1\n")
    patch.wait_complete()
    assert tasks.states() == {PatchState.UNDEFINED}


@pytest.mark.behaviour("TR-18")
def test_loop_outside_the_function(
    guest: Machine, kernel: Kernel, livepatch: Livepatch, tasks: Tasks, kernel_log: KernelLog
) -> None:
    """A kernel thread that loops outside of it is switched by its own cond_resched() since 6.12.

    So e3ff7c60 made it. Before, and where cond_resched() does nothing any more (PREEMPT_LAZY), such
    a thread is switched by a try that finds it off its CPU. That can happen on any kernel, so there
    are several transitions in which cond_resched() may switch it.
    """
    symbols = guest.run(["grep", "-qwF", "__klp_sched_try_switch", "/proc/kallsyms"])
    by_itself = symbols.ok and not kernel.config.enabled("PREEMPT_LAZY")
    livepatch.load_target(LOOP)
    (thread,) = tasks.find(LOOP)
    for _ in range(TRANSITIONS if by_itself else 1):
        patch = livepatch.load("klp_test_symbol", object=LOOP, function=LOOP)
        if not by_itself:
            tasks.wait_all(PatchState.PATCHED, but=thread)
            guest.write(STOP, "1\n")
        patch.wait_complete()
        assert thread.alive
        assert tasks.states() == {PatchState.UNDEFINED}
        if kernel_log.matching(BY_ITSELF):
            break
        patch.disable()
        patch.unload()
    assert bool(kernel_log.matching(BY_ITSELF)) is by_itself


@pytest.mark.slow(14)
@pytest.mark.smp(CPUS)
@pytest.mark.behaviour("TR-20")
def test_system_call_under_load(guest: Machine, livepatch: Livepatch, tasks: Tasks) -> None:
    """A system call is patched while a process on each CPU makes it without a pause.

    All of them run the new body then, and the old one after a disable.
    """
    hammers = [guest.spawn("klp-syscall", "hammer") for _ in range(CPUS)]
    for body in range(4):
        if body == 1:
            patch = livepatch.load("klp_test_syscall", wait=True)
        elif body == 2:
            patch.disable()
            patch.unload()
        elif body == 3:
            livepatch.load("klp_test_syscall", wait=True)
        deadline = guest.scaled(10)
        values = [json.loads(hammer.next_line(deadline))["value"] for hammer in hammers]
        assert values == [body % 2] * CPUS
        assert tasks.states() == {PatchState.UNDEFINED}
    for hammer in hammers:
        hammer.close_stdin()
        (last,) = [json.loads(line) for line in hammer.lines(guest.scaled(10))]
        assert last["calls"] > 0, "its last line has no number of calls"


@pytest.mark.slow(9)
@pytest.mark.smp(CPUS)
@pytest.mark.behaviour("TR-21")
def test_all_cpus_busy(guest: Machine, livepatch: Livepatch, tasks: Tasks) -> None:
    """Tasks that keep all CPUs busy do not hold a transition: one on each CPU, then more."""
    pinned = [guest.spawn("taskset", f"{1 << cpu:x}", "sh", "-c", SPIN) for cpu in range(CPUS)]
    patch = livepatch.load(PATCH, wait=True)
    assert tasks.states() == {PatchState.UNDEFINED}
    free = [guest.spawn("sh", "-c", SPIN) for _ in range(CPUS)]
    patch.disable()
    patch.unload()
    assert all(tasks.get(hog.pid).alive for hog in (*pinned, *free))


@pytest.mark.slow(5)
@pytest.mark.behaviour("TR-21")
def test_nearly_out_of_memory(
    guest: Machine, livepatch: Livepatch, tasks: Tasks, sample_modules: Mapping[str, Path]
) -> None:
    """With hardly any free memory a patch is enabled and disabled."""
    guest.upload(sample_modules[PATCH])
    made = guest.run(["sh", "-c", "mkdir /fill && mount -t tmpfs -o size=100% none /fill"])
    assert made.ok, made.stderr
    filled_mib = _available_mib(guest) - LEFT_MIB
    fill = ["dd", "if=/dev/zero", "of=/fill/zeroes", "bs=1M", f"count={filled_mib}"]
    assert guest.run(fill, deadline=guest.scaled(60)).ok
    assert _available_mib(guest) < 2 * LEFT_MIB
    patch = livepatch.load(PATCH, wait=True)
    assert tasks.states() == {PatchState.UNDEFINED}
    patch.disable()
    patch.unload()
    assert _available_mib(guest) < 2 * LEFT_MIB


def _available_mib(guest: Machine) -> int:
    (line,) = [
        line for line in guest.read("/proc/meminfo").splitlines() if line.startswith("MemAvailable")
    ]
    return int(line.split()[1]) >> 10
