# SPDX-License-Identifier: GPL-2.0-only
"""Measurements of guests and of the suite. Both sides of a ratio are measured in one run."""

from __future__ import annotations

import multiprocessing
import os
import re
import statistics
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.figures import Bound, Budget, Figure, ratio, side
from benchmarks.reference import boots
from harness.deadline import Deadline
from harness.errors import HarnessError
from harness.livepatch.patch import Livepatch
from harness.vm.guest.session import Fresh
from harness.vm.host.capacity import measure_host, time_scale
from harness.vm.host.process import die_with_parent, run

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from benchmarks.place import Bench
    from harness.vm.guest.machine import Machine
    from harness.vm.guest.session import Session
    from harness.vm.kernel.progress import Progress

ANSWER_RATIO = 1 / 25
START_RATIO = 1 / 14
OVERLAP_RATIO = 8
SUITE_BOOTS = 145.0

_OVERLAP_GUESTS = 20
_PATCH = "klp_test_cmdline_a"
_SUITE_DEADLINE_S = 1800.0
_CYCLES_DEADLINE_S = 900.0


def start_of_a_guest(bench: Bench, *, runs: int) -> list[Figure]:
    """Measure restored and booted guests in turn, from the start of QEMU.

    To the agent's first answer, to the end of a first command, and in guests of their own to SSH:
    in guests that have it from their template, and in others.
    """
    answers = _Restored("guest-answer", "a guest to its first answer", ANSWER_RATIO)
    commands = _Restored("guest-command", "a guest to the end of a command")
    sessions = _Restored("guest-start", "a guest to SSH, of a template with SSH", START_RATIO)
    exchanges = _Restored("guest-exchange", "a guest to SSH, of any other template")
    with bench.session() as session:
        # One template after the other: the spare guest is of the one that was used last.
        _warm_up(bench, session)
        for _ in range(runs):
            for fresh in (Fresh.SNAPSHOT, Fresh.BOOT):
                start = time.monotonic()
                with session.guest(bench.kernel, name="start", fresh=fresh) as machine:
                    answers.seconds[fresh].append(time.monotonic() - start)
                    machine.run(["true"])
                    commands.seconds[fresh].append(time.monotonic() - start)
        for kind, ssh in ((exchanges, False), (sessions, True)):
            _warm_up(bench, session, ssh=ssh)
            for _ in range(runs):
                for fresh in (Fresh.SNAPSHOT, Fresh.BOOT):
                    start = time.monotonic()
                    with session.guest(bench.kernel, name="ssh", fresh=fresh, ssh=ssh) as machine:
                        machine.ssh()
                        kind.seconds[fresh].append(time.monotonic() - start)
    return [each.figure() for each in (answers, commands, sessions, exchanges)]


def _warm_up(bench: Bench, session: Session, *, ssh: bool = False) -> None:
    with session.guest(bench.kernel, name="warm-up", fresh=Fresh.SNAPSHOT, ssh=ssh):
        pass


class _Restored:
    """What is measured in restored guests against booted ones, in seconds."""

    def __init__(self, name: str, what: str, most: float | None = None) -> None:
        self._name, self._what, self._most = name, what, most
        self.seconds: dict[Fresh, list[float]] = {Fresh.SNAPSHOT: [], Fresh.BOOT: []}

    def figure(self) -> Figure:
        """Return the ratio, with its budget."""
        return ratio(
            self._name,
            f"{self._what}, restored against booted",
            side("restored", "s", self.seconds[Fresh.SNAPSHOT]),
            side("booted", "s", self.seconds[Fresh.BOOT]),
            None if self._most is None else Budget(bound=Bound.AT_MOST, value=self._most),
        )


def overlap_of_guests(bench: Bench, *, cycles: int) -> list[Figure]:
    """Measure cycles of load, disable and unload on fresh guests: one at a time, then twenty.

    Also the memory of a clone at the end of its cycle, without the RAM that it shares.
    """
    spawn = multiprocessing.get_context("spawn")
    cores = measure_host().cores
    rates: dict[int, float] = {}
    memory: list[float] = []
    with bench.session() as owner:
        with owner.guest(bench.kernel, name="template", fresh=Fresh.SNAPSHOT):
            pass
        for guests in (1, _OVERLAP_GUESTS):
            scale = time_scale(bench.settings.accel, guests=guests, cores=cores)
            place = replace(bench, settings=replace(bench.settings, time_scale=scale))
            with ProcessPoolExecutor(
                guests, mp_context=spawn, initializer=die_with_parent, initargs=(os.getpid(),)
            ) as pool:
                # Each worker imports the harness first; that is not what is measured.
                list(pool.map(_ready, range(guests * 4)))
                work = [pool.submit(_cycles, place, cycles) for _ in range(guests)]
                done = [future.result(timeout=_CYCLES_DEADLINE_S) for future in work]
            rates[guests] = rate_while_all_work([worker.ends_s for worker in done])
            memory += [mib for worker in done for mib in worker.memory_mib]
    many, one = rates[_OVERLAP_GUESTS], rates[1]
    return [
        ratio(
            "guest-overlap",
            f"transition cycles, {_OVERLAP_GUESTS} guests against 1",
            side(f"{_OVERLAP_GUESTS} guests", "cycles/s", [many]),
            side("1 guest", "cycles/s", [one]),
            Budget(bound=Bound.AT_LEAST, value=OVERLAP_RATIO),
        ),
        Figure(
            id="clone-memory",
            what="memory of a clone beyond the shared RAM",
            value=statistics.median(memory),
            unit="MiB",
        ),
    ]


def rate_while_all_work(ends_s: Sequence[Sequence[float]]) -> float:
    """Return cycles per second while all workers work.

    That is from when every worker has ended its first cycle until one has ended its last. Raises
    HarnessError when there is no such time: each worker needs two cycles or more.
    """
    start_s = max(worker[0] for worker in ends_s)
    end_s = min(worker[-1] for worker in ends_s)
    if end_s <= start_s:
        raise HarnessError(
            "the guests did not all work at the same time, so there is no rate",
            hint="run more cycles in each: --cycles",
        )
    return sum(start_s < end <= end_s for worker in ends_s for end in worker) / (end_s - start_s)


def whole_suite(
    bench: Bench, spec: str, accel: str, *, runs: int, progress: Progress
) -> list[Figure]:
    """Measure `klp-harness test` with a warm cache, against a boot.

    Raises HarnessError when it did not pass, since its time means nothing then.
    """
    booted = boots(bench, runs=runs)
    progress.stage("the behaviour suite")

    def see(line: str) -> None:
        percent = percent_done(line)
        if percent is not None:
            progress.count(percent, 100, "percent of the tests")

    done = run(
        [sys.executable, "-m", "harness.cli", "test", f"--kernel={spec}", f"--accel={accel}"],
        deadline=Deadline.after(_SUITE_DEADLINE_S),
        on_line=see,
        check=False,
    )
    if done.returncode != 0:
        raise HarnessError(
            f"the suite failed with exit code {done.returncode}, so its time means nothing",
            hint="`klp-harness test` shows what failed",
            details=tuple(done.stdout.splitlines()[-10:]),
        )
    return [
        ratio(
            "suite",
            "the behaviour suite, warm, against a boot",
            side("all tests", "s", [done.seconds]),
            booted,
            Budget(bound=Bound.AT_MOST, value=SUITE_BOOTS),
        )
    ]


def percent_done(line: str) -> int | None:
    """Return the percentage at the end of a row of pytest's dots, else None."""
    found = re.search(r"\[ *(\d+)%\]$", line.rstrip())
    return int(found[1]) if found else None


def own_mib(smaps_rollup: str) -> float:
    """Return the memory of a process that it does not share, in MiB, from /proc/PID/smaps_rollup.

    That is its anonymous memory: QEMU's own, and each page of the template's RAM that the clone has
    written. Private_Dirty would also count pages that this clone alone has read: a page of a memfd
    is always dirty there, and private while one process maps it (fs/proc/task_mmu.c,
    smaps_account()).
    """
    found = re.search(r"^Anonymous:\s+(\d+) kB$", smaps_rollup, re.MULTILINE)
    if found is None:
        raise HarnessError("/proc/PID/smaps_rollup has no line Anonymous")
    return int(found[1]) / 1024


def _ready(_: int) -> None:
    """Keep a worker busy for a moment, so that the pool starts all of them."""
    time.sleep(0.2)


@dataclass(frozen=True, kw_only=True)
class _Worked:
    """A worker's cycles: when each ended, by the monotonic clock, and the memory of its guest."""

    ends_s: tuple[float, ...]
    memory_mib: tuple[float, ...]


def _cycles(bench: Bench, count: int) -> _Worked:
    """Run so many cycles, each on a fresh guest."""
    memory, ends = [], []
    with bench.session() as session:
        for _ in range(count):
            with session.guest(bench.kernel, name="cycle", fresh=Fresh.SNAPSHOT) as machine:
                _cycle(machine, bench.modules)
                rollup = Path(f"/proc/{machine.hypervisor.pid}/smaps_rollup")
                memory.append(own_mib(rollup.read_text()))
            ends.append(time.monotonic())
    return _Worked(ends_s=tuple(ends), memory_mib=tuple(memory))


def _cycle(machine: Machine, modules: Mapping[str, Path]) -> None:
    patch = Livepatch(machine, modules=modules).load(_PATCH, wait=True)
    patch.disable()
    patch.unload()
    machine.check_splats()
