# SPDX-License-Identifier: GPL-2.0-only
"""What a transition costs: its time, the stall that a task sees, the tasks that it wakes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.deadline import Deadline
from harness.livepatch.program_output import next_object
from harness.livepatch.waiting import QUICK_S, TRANSITION_S, scaled
from harness.tools.models.bench_guest import PAIR_FILE, PAIR_GATE, PAIR_PATCH, PAIR_TARGET
from harness.tools.models.findings import NOT_TRIED, Finding, ending
from harness.tools.models.rows import SIZES, STALL_TASKS, WOKEN_OF, time_id

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.livepatch.guest import GuestProcess
    from harness.tools.models.bench_guest import BenchGuest

# Without consistency no module of a disabled patch can be loaded again, so each load is of another
# one. All of them patch the same function of vmlinux.
PATCHES = tuple(f"klp_test_cmdline_{letter}" for letter in "abcd")
_LOADS = 2
_CALLERS = 2
_ORDINARY = "klp_target_mod"
_BASELINE_S = 2.0
_SECOND_CPU = "/sys/devices/system/cpu/cpu1/online"
# By default a guest of little memory may have fewer threads (kernel/fork.c).
_THREADS_MAX = "/proc/sys/kernel/threads-max"


def time_by_tasks(bench: BenchGuest) -> Iterator[Finding]:
    """Load a livepatch beside 10, 100, 1,000 and 5,000 sleepers, until one never ends."""
    bench.guest.write(_THREADS_MAX, f"{2 * SIZES[-1]}\n")
    asleep = 0
    ended = bench.warm_up()
    never = None
    for patch, size in zip(PATCHES, SIZES, strict=True):
        if never is not None:
            yield Finding(row=time_id(size), never=f"{NOT_TRIED}: {never}")
            continue
        if ended.seconds is not None:
            bench.crowd(size - asleep)
            asleep = size
            ended = bench.timed_load(patch)
        found = ending(time_id(size), ended)
        yield found
        if found.never is not None:
            never = f"with {asleep:,} tasks asleep it was {found.never}"


def time_under_load(bench: BenchGuest) -> Iterator[Finding]:
    """Load livepatches while tasks make system calls and fork without a pause."""
    guest = bench.guest
    warm = ending("time-load", bench.warm_up())
    if warm.never is not None:
        yield warm
        return
    for program in ("klp-storm", *["klp-calls"] * _CALLERS):
        guest.spawn(program).next_line(scaled(guest, QUICK_S))
    for patch in PATCHES[:_LOADS]:
        found = ending("time-load", bench.timed_load(patch))
        yield found
        if found.never is not None:
            return


def stall(bench: BenchGuest) -> Iterator[Finding]:
    """Watch a task that spins: while an ordinary module is loaded, while livepatches are, and while
    a transition is held open.
    """
    guest = bench.guest
    # Under TCG two busy CPUs would take turns of a tenth of a second.
    guest.write(_SECOND_CPU, "0\n")
    guest.write(_THREADS_MAX, f"{4 * STALL_TASKS}\n")
    bench.crowd(STALL_TASKS)
    spinner = guest.spawn("klp-stall")
    spinner.next_line(scaled(guest, QUICK_S))
    bench.livepatch.load_target(_ORDINARY).unload()
    _longest_s(bench, spinner)
    until = Deadline.after(_BASELINE_S)
    while not until.expired:
        bench.livepatch.load_target(_ORDINARY).unload()
    yield Finding(row="stall-none", value=_longest_s(bench, spinner))
    ended = bench.warm_up()
    for patch in PATCHES[:_LOADS]:
        _longest_s(bench, spinner)
        if ended.seconds is not None:
            ended = bench.timed_load(patch)
        if ended.seconds is None:
            never = ending("stall", ended).never
            yield Finding(row="stall", never=never)
            yield Finding(row="stall-held", never=f"{NOT_TRIED}: it was {never}")
            return
        yield Finding(row="stall", value=_longest_s(bench, spinner))
    bench.livepatch.load_target(PAIR_TARGET)
    inside = bench.hold(PAIR_FILE, PAIR_GATE)
    _longest_s(bench, spinner)
    was_open = bench.give_time(bench.livepatch.load(PAIR_PATCH))
    seconds = _longest_s(bench, spinner)
    yield Finding(row="stall-held", value=seconds, says=None if was_open else "nothing was held")
    bench.answer(inside, PAIR_GATE)


def woken(bench: BenchGuest) -> Iterator[Finding]:
    """Count the sleepers whose context switches grew during a transition."""
    crowd = bench.crowd(WOKEN_OF)
    before = bench.switches(crowd)
    ended = bench.timed_load(PATCHES[0])
    # Who was woken sleeps again.
    bench.await_crowd()
    after = bench.switches(crowd)
    number = sum(after[tid] > count for tid, count in before.items())
    says = None if ended.seconds is not None else f"the transition never ends: {ended.why}"
    yield Finding(row="woken", value=number, says=says)


def _longest_s(bench: BenchGuest, spinner: GuestProcess) -> float:
    """Return the longest stall since the last time that it was asked for, in seconds."""
    spinner.write_line("")
    deadline = scaled(bench.guest, TRANSITION_S)
    window = next_object(spinner, "klp-stall", deadline, key="longest_us")
    return int(window["longest_us"]) * 1e-6
