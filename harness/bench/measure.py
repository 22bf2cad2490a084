# SPDX-License-Identifier: GPL-2.0-only
"""The measurements: each returns figures, and both sides of a ratio come from one run."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import re
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.bench.figures import Bound, Budget, Figure, ratio, side
from harness.deadline import Deadline
from harness.errors import HarnessError
from harness.guest.session import Fresh, GuestSettings, Session
from harness.host.cache import Store
from harness.host.process import die_with_parent, run
from harness.kernel.build import KernelRequest, obtain_kernel
from harness.livepatch.patch import Livepatch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from harness.guest.machine import Machine
    from harness.kernel.kernel import Kernel
    from harness.kernel.progress import Progress

COLD_BUILD_S = 6 * 60.0
RESTORE_RATIO = 1 / 12
OVERLAP_RATIO = 4.5
SUITE_S = 4 * 60.0

_OVERLAP_GUESTS = 8
_PATCH = "klp_test_cmdline_a"
_BUILD_DEADLINE_S = 3600.0
_SUITE_DEADLINE_S = 1800.0
_CYCLES_DEADLINE_S = 900.0


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What is measured on: a kernel, its sample modules, and a run's folder for its guests."""

    kernel: Kernel
    modules: Mapping[str, Path]
    settings: GuestSettings
    folder: Path
    cache: Path

    @contextlib.contextmanager
    def session(self) -> Iterator[Session]:
        """Open the run; processes that open it share one template."""
        with Session(self.folder, self.settings, Store(self.cache)) as session:
            yield session


def start_of_a_guest(bench: Bench, *, runs: int) -> list[Figure]:
    """Measure restore against cold boot, in turn, each until SSH and agent answer."""
    restored: list[float] = []
    booted: list[float] = []
    with bench.session() as session:
        with session.guest(bench.kernel, name="warm-up", fresh=Fresh.SNAPSHOT):
            pass
        for _ in range(runs):
            for fresh, into in ((Fresh.SNAPSHOT, restored), (Fresh.BOOT, booted)):
                start = time.monotonic()
                with session.guest(bench.kernel, name="start", fresh=fresh):
                    into.append(time.monotonic() - start)
    return [
        ratio(
            "guest-start",
            "a guest's start, restored against booted",
            side("restored", "s", restored),
            side("booted", "s", booted),
            Budget(bound=Bound.AT_MOST, value=RESTORE_RATIO),
        )
    ]


def overlap_of_guests(bench: Bench, *, cycles: int) -> list[Figure]:
    """Measure load, wait, disable, wait, unload on fresh guests: one at a time, then eight.

    Also what a clone needs of memory beyond the RAM that it shares.
    """
    spawn = multiprocessing.get_context("spawn")
    rates: dict[int, float] = {}
    memory: list[float] = []
    with bench.session() as owner:
        with owner.guest(bench.kernel, name="template", fresh=Fresh.SNAPSHOT):
            pass
        for guests in (1, _OVERLAP_GUESTS):
            with ProcessPoolExecutor(
                guests, mp_context=spawn, initializer=die_with_parent, initargs=(os.getpid(),)
            ) as pool:
                # Each worker imports the harness first; that is not what is measured.
                list(pool.map(_ready, range(guests * 4)))
                start = time.monotonic()
                work = [pool.submit(_cycles, bench, cycles) for _ in range(guests)]
                for future in work:
                    memory += future.result(timeout=_CYCLES_DEADLINE_S)
                rates[guests] = guests * cycles / (time.monotonic() - start)
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
            value=side("", "MiB", memory).value,
            unit="MiB",
        ),
    ]


def cold_build(spec: str, cache: Path, *, progress: Progress) -> list[Figure]:
    """Measure a kernel from nothing: sources fetched, unpacked, configured and built."""
    with tempfile.TemporaryDirectory(dir=cache, prefix="bench-") as name:
        start = time.monotonic()
        obtain_kernel(
            KernelRequest(spec=spec),
            store=Store(Path(name)),
            deadline=Deadline.after(_BUILD_DEADLINE_S),
            progress=progress,
        )
        seconds = time.monotonic() - start
    return [
        Figure(
            id="cold-build",
            what=f"kernel {spec} from nothing",
            value=seconds,
            unit="s",
            budget=Budget(bound=Bound.AT_MOST, value=COLD_BUILD_S),
        )
    ]


def whole_suite(spec: str, *, on_line: Callable[[str], None]) -> list[Figure]:
    """Measure the behaviour suite with all that it needs in the cache.

    Raises HarnessError when it did not pass: the time of a broken run means nothing.
    """
    done = run(
        [sys.executable, "-m", "harness.cli", "test", f"--kernel={spec}"],
        deadline=Deadline.after(_SUITE_DEADLINE_S),
        on_line=on_line,
        check=False,
    )
    if done.returncode != 0:
        raise HarnessError(
            f"the suite ended with exit code {done.returncode}: its time means nothing",
            details=tuple(done.stdout.splitlines()[-10:]),
        )
    return [
        Figure(
            id="suite",
            what="the behaviour suite, warm",
            value=done.seconds,
            unit="s",
            budget=Budget(bound=Bound.AT_MOST, value=SUITE_S),
        )
    ]


def private_mib(smaps_rollup: str) -> float:
    """Return what a process has for itself, in MiB, from its /proc/PID/smaps_rollup.

    Pages of the template's RAM that the clone has only read are not its own, and not counted.
    """
    found = re.search(r"^Private_Dirty:\s+(\d+) kB$", smaps_rollup, re.MULTILINE)
    if found is None:
        raise HarnessError("/proc/PID/smaps_rollup has no line Private_Dirty")
    return int(found[1]) / 1024


def _ready(_: int) -> None:
    """Keep a worker busy for a moment, so that the pool starts all of them."""
    time.sleep(0.2)


def _cycles(bench: Bench, count: int) -> list[float]:
    """Go through so many cycles, each on a fresh guest; return each guest's memory in MiB."""
    memory = []
    with bench.session() as session:
        for _ in range(count):
            with session.guest(bench.kernel, name="cycle", fresh=Fresh.SNAPSHOT) as machine:
                _cycle(machine, bench.modules)
                rollup = Path(f"/proc/{machine.hypervisor.pid}/smaps_rollup")
                memory.append(private_mib(rollup.read_text()))
    return memory


def _cycle(machine: Machine, modules: Mapping[str, Path]) -> None:
    patch = Livepatch(machine, modules=modules).load(_PATCH, wait=True)
    patch.disable()
    patch.unload()
    machine.check_splats()
