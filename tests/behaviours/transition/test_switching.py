# SPDX-License-Identifier: GPL-2.0-only
"""How tasks and idle CPUs switch that are in none of the patched functions."""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from harness.deadline import wait_until
from harness.livepatch.gates import Gates
from harness.livepatch.kernel_log import KernelLog
from harness.livepatch.patch import Livepatch
from harness.livepatch.tasks import PatchState, Tasks
from harness.livepatch.transition_log import log_attempts

if TYPE_CHECKING:
    from harness.vm.guest.machine import Machine
    from harness.vm.kernel.kernel import Kernel

DYNAMIC_DEBUG = "/sys/kernel/debug/dynamic_debug/control"
MOVE_ALL = "for task in /proc/[0-9]*; do taskset -p 1 ${task#/proc/}; done"
SELDOM_S = 3600
RETRIES = 2
SERVER = "dl_task_timer"
CPUS = 6
TIMES = 3  # a CPU may have work of its own by chance, but not each time
SPIN = "while :; do :; done"


@pytest.mark.slow(10)
@pytest.mark.behaviour("TR-05")
def test_cpu_bound_task_switches(
    guest: Machine, kernel: Kernel, livepatch: Livepatch, tasks: Tasks, kernel_log: KernelLog
) -> None:
    """A user task that spins on a CPU of its own switches on the return from the next interrupt.

    The first try of a transition may find it running, and the next one, a second later, does not:
    so it is neither the fake signal after 15 tries that switches it, nor its being preempted for a
    moment, which a task of the kernel's own does every few seconds.
    """
    _keep_others_off(guest, kernel)
    log_attempts(guest)
    spinning = guest.spawn("taskset", "2", "sh", "-c", f"echo ready; {SPIN}")
    assert spinning.next_line(guest.scaled(10)) == "ready"
    spinner = tasks.get(spinning.pid)
    for _ in range(TIMES):
        patch = livepatch.load("klp_test_cmdline_a", wait=True)
        patch.disable()
        patch.unload()
    assert spinner.alive
    assert not kernel_log.matching("signaling remaining tasks")
    tries = kernel_log.matching(f":{spinner.tid} is running")
    assert len(tries) <= 2 * TIMES + RETRIES, "no interrupt has switched it"


@pytest.mark.behaviour("TR-40")
def test_thread_in_user_mode_switches(
    guest: Machine, kernel: Kernel, livepatch: Livepatch, tasks: Tasks, kernel_log: KernelLog
) -> None:
    """A second thread that spins in user mode switches as TR-05 says, while its leader sleeps.

    It has to be marked (TIF_PATCH_PENDING) for that, which klp_start_transition() does for each
    thread. The fake signal goes to marked threads alone (klp_send_signals()).
    """
    _keep_others_off(guest, kernel)
    log_attempts(guest)
    spinning = guest.spawn("klp-spinner", "1")
    thread = tasks.get(json.loads(spinning.next_line(guest.scaled(10)))["spinning"])
    assert thread.pid != thread.tid
    for _ in range(TIMES):
        patch = livepatch.load("klp_test_cmdline_a", wait=True)
        patch.disable()
        patch.unload()
    assert thread.state == "R"
    assert not kernel_log.matching("signaling remaining tasks")
    tries = kernel_log.matching(f":{thread.tid} is running")
    assert len(tries) <= 2 * TIMES + RETRIES, "no interrupt has switched it"


@pytest.mark.slow(14)
@pytest.mark.behaviour("TR-13")
@pytest.mark.smp(CPUS)
def test_idle_cpus_switch(
    guest: Machine, kernel: Kernel, livepatch: Livepatch, kernel_log: KernelLog
) -> None:
    """Idle CPUs run their loop and switch: a quiet guest completes within two retries.

    Retries are counted, not timed: each logs the tasks that it could not switch.
    """
    _keep_others_off(guest, kernel)
    guest.write(DYNAMIC_DEBUG, "file kernel/livepatch/transition.c +p\n")
    for _ in range(TIMES):
        _wait_for_servers(guest)
        _switch_within_two_retries(guest, livepatch, kernel_log)


@pytest.mark.behaviour("TR-14")
@pytest.mark.smp(CPUS)  # as above, so that the same kind of guest serves
def test_cpus_offline_and_coming(
    guest: Machine, livepatch: Livepatch, tasks: Tasks, gate: Gates
) -> None:
    """CPUs that are offline, or change during a transition, neither hold it nor cause a warning.

    In the first transition a CPU goes offline and another online; in the second one is offline.
    """
    _online(guest, 3, value=False)
    sleeper = gate.enter()
    patch = livepatch.load("klp_test_gate")
    tasks.wait_all(PatchState.PATCHED, held_by=sleeper)
    _online(guest, 2, value=False)
    _online(guest, 3, value=True)
    sleeper.release()
    patch.wait_complete()
    _online(guest, 2, value=True)
    assert tasks.states() == {PatchState.UNDEFINED}
    _online(guest, 3, value=False)
    patch.disable()
    patch.wait_gone()
    _online(guest, 3, value=True)
    assert tasks.states() == {PatchState.UNDEFINED}


@pytest.mark.behaviour("TR-23")
def test_order_in_the_log(guest: Machine, livepatch: Livepatch, kernel_log: KernelLog) -> None:
    """The log has initializing, starting, completing and complete, around the callbacks."""
    guest.write(DYNAMIC_DEBUG, "file kernel/livepatch/* +p\n")
    patch = livepatch.load("klp_test_callbacks_a", wait=True)
    _in_order(
        kernel_log,
        "enabling patch",
        "initializing patching transition",
        "callback pre_patch vmlinux",
        "starting patching transition",
        "completing patching transition",
        "callback post_patch vmlinux",
        "patching complete",
    )
    kernel_log.mark()
    patch.disable()
    patch.wait_gone()
    _in_order(
        kernel_log,
        "initializing unpatching transition",
        "callback pre_unpatch vmlinux",
        "starting unpatching transition",
        "completing unpatching transition",
        "callback post_unpatch vmlinux",
        "unpatching complete",
    )


def _online(guest: Machine, cpu: int, *, value: bool) -> None:
    guest.write(f"/sys/devices/system/cpu/cpu{cpu}/online", f"{int(value)}\n")


def _in_order(kernel_log: KernelLog, *parts: str) -> None:
    texts = kernel_log.texts()
    places = [next((n for n, text in enumerate(texts) if part in text), -1) for part in parts]
    assert -1 not in places, f"missing: {parts[places.index(-1)]!r} in {texts}"
    assert places == sorted(places), dict(zip(parts, places, strict=True))


def _keep_others_off(guest: Machine, kernel: Kernel) -> None:
    """Keep all tasks on CPU 0, so that only interrupts reach the other CPUs.

    Some of the kernel's own work visits each CPU every few seconds: mm/vmstat.c, and by the stopper
    thread kernel/watchdog.c. What is bound to a CPU stays there, asleep until that CPU needs it.
    """
    guest.write("/proc/sys/vm/stat_interval", f"{SELDOM_S}\n")
    if kernel.config.enabled("SOFTLOCKUP_DETECTOR"):
        guest.write("/proc/sys/kernel/soft_watchdog", "0\n")
    guest.write("/sys/devices/virtual/workqueue/cpumask", "1\n")
    guest.run(["sh", "-c", MOVE_ALL])


def _wait_for_servers(guest: Machine) -> None:
    """Wait until no CPU but 0 has a timer of its deadline server.

    Since 6.12 it expires a second after the CPU ran a fair task (kernel/sched/deadline.c), and
    makes an idle CPU run its loop.
    """
    assert wait_until(lambda: not _cpus_with_servers(guest), guest.scaled(20), interval_s=0.2)


def _cpus_with_servers(guest: Machine) -> set[int]:
    parts = re.split(r"^cpu: (\d+)$", guest.read("/proc/timer_list"), flags=re.MULTILINE)
    timers = dict(zip(map(int, parts[1::2]), parts[2::2], strict=True))
    assert len(timers) == CPUS
    return {cpu for cpu, text in timers.items() if cpu and SERVER in text}


def _switch_within_two_retries(guest: Machine, livepatch: Livepatch, kernel_log: KernelLog) -> None:
    kernel_log.mark()
    patch = livepatch.load("klp_test_cmdline_a")
    # Without a wake-up it may take a minute: two retries are enough.
    assert wait_until(
        lambda: not patch.in_transition or _most_tries(kernel_log) > RETRIES,
        guest.scaled(30),
        interval_s=0.2,
    )
    assert _most_tries(kernel_log) <= RETRIES
    reasons = [record.text for record in kernel_log.matching("swapper/")]
    # Not for an unreliable stack: the kernel does not check it while the task is on its CPU.
    assert all(text.endswith(" is running") for text in reasons), reasons
    assert patch.enabled
    patch.disable()
    patch.unload()


def _most_tries(kernel_log: KernelLog) -> int:
    """Return the highest number of tries that did not switch one CPU's idle task."""
    swappers = kernel_log.matching("swapper/")
    by_cpu = Counter(record.text.partition("swapper/")[2].partition(":")[0] for record in swappers)
    return max(by_cpu.values(), default=0)
