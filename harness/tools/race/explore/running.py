# SPDX-License-Identifier: GPL-2.0-only
"""A guest with klp-duel under the gdb server, as long as it runs: until a breakpoint, or a number.

What is waited for is looked at again and again: at each breakpoint that a CPU meets, QEMU forgets
all code that it has translated.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

from harness.deadline import Deadline
from harness.errors import HarnessError, QemuFailed
from harness.tools.race.explore.duel import Duel, Word
from harness.tools.race.explore.locks import preempt_count, read_count
from harness.tools.race.explore.looks import slices
from harness.tools.race.explore.unserved import UnservedRun
from harness.tools.race.explore.waiting import IDLE

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable
    from pathlib import Path

    from harness.observer.accesses import AccessFile
    from harness.tools.race.explore.scene import Scene
    from harness.vm.guest.gdb_client import GdbClient, Stop
    from harness.vm.guest.gdb_server import GdbServer
    from harness.vm.guest.hypervisor import Hypervisor

_SCENE_S = 60.0
_END_S = 1.0
_ANSWER_S = 20.0
_RANGE = re.compile(r"^([0-9a-f]{16})-([0-9a-f]{16}) ", re.MULTILINE)
INTERRUPTS = 1 << 9
"""The flag of a CPU that takes interrupts."""
_WORD = 8


A, B = 0, 1
"""The CPUs of the two."""


class RunningGuest:
    """A guest that stands still whenever no method of this object runs."""

    def __init__(
        self,
        scene: Scene,
        gdb: GdbClient,
        hypervisor: Hypervisor,
        server: GdbServer,
        *,
        time_scale: float,
    ) -> None:
        self.scene = scene
        self.gdb = gdb
        self.duel = Duel(gdb, scene.pages)
        self._code = scene.code
        self.round = 1
        """Which trial of the guest this is, from 1."""
        self.first_event = 0
        """How many events QEMU's plugin had reported before it."""
        self.armed_event = 0
        """How many there were before A and B could begin."""
        self.has_workers = False
        """Whether workers may go on with what A has begun."""
        self.leaves = False
        """Whether A ends, and nobody waits for it: it runs on when it is on no list any more."""
        self.is_clean = False
        """Whether it has ended, and left nothing."""
        self._hypervisor = hypervisor
        self._unserved = UnservedRun(hypervisor, server, gdb, self.duel)
        self._scale = time_scale
        self._current = scene.code.percpu("current_task", "pcpu_hot")
        self._a_task = 0
        self._ran_s = 0.0
        self.accesses: AccessFile | None = None
        """What the guest reads and writes, when that is noted."""
        self.on_stop: Callable[[Stop], None] = ignored
        # Who stops the guest again and again lets B have more time.
        self.patience = 1

    @property
    def is_followed(self) -> bool:
        """Whether somebody looks at each breakpoint that a CPU meets."""
        return self.on_stop is not ignored

    @property
    def observed(self) -> Path | None:
        """What QEMU's plugin has written, if the guest has one."""
        return self._hypervisor.observed

    def scaled(self, seconds: float) -> float:
        """Return how long something may take here that takes so many seconds on hardware."""
        return seconds * self._scale

    def run_until(self, wanted: Callable[[Stop], bool], seconds: float) -> Stop | None:
        """Run until a breakpoint is what is wanted; None when the time is up."""
        end_s = time.monotonic() + seconds
        while True:
            left_s = end_s - time.monotonic()
            if left_s <= 0:
                return None
            start_s = time.monotonic()
            self.gdb.go()
            stop = self.gdb.wait(left_s) or self.gdb.halt()
            self._ran_s += time.monotonic() - start_s
            if stop.cpu is None:
                return None
            self.on_stop(stop)
            if wanted(stop):
                return stop
            self.gdb.step(stop.cpu)

    def run_for(self, seconds: float) -> None:
        """Let all CPUs go on."""
        self.run_until(lambda _: False, seconds)

    def await_word(self, word: int, least: int, seconds: float) -> bool:
        """Let all CPUs go on until a number of klp-duel's is large enough.

        Return whether it is: not after a splat, or when the time is up.
        """
        for slice_s in slices(seconds):
            if self.duel.get(word) >= least:
                return True
            if self._has_failed():
                return False
            self.run_for(slice_s)
        return self.duel.get(word) >= least

    def settle(self, seconds: float) -> bool:
        """Let all go on until no transition is open; return whether that has come in time."""
        times = self.duel.get(Word.SETTLE_GO) + 1
        self.duel.set(Word.SETTLE_GO, times)
        return self.await_word(Word.SETTLE_DONE, times, seconds)

    def run_to(
        self,
        places: Collection[int],
        wanted: Callable[[Stop], bool],
        is_over: Callable[[], bool],
        seconds: float,
    ) -> Stop | None:
        """Run until a CPU is at a place, and that is what is wanted.

        None when it is over, or has taken as long as so many seconds on hardware.
        """
        self.set_breakpoints(places)
        try:
            for slice_s in slices(self.scaled(seconds)):
                if is_over():
                    return None
                stop = self.run_until(wanted, slice_s)
                if stop is not None:
                    return stop
        finally:
            self._clear_breakpoints(places)
        return None

    def run_to_end_of_a(
        self, wanted: Callable[[Stop], bool] = lambda _: False, places: Collection[int] = ()
    ) -> Stop | None:
        """Run until CPU 0 has nothing to do, or a CPU is at a place and that is what is wanted.

        A task that preempts A sees it on no list any more, when A has yet to go on.
        """
        return self.run_to(places, wanted, self.is_idle, _END_S)

    def is_idle(self) -> bool:
        """Return whether CPU 0 has nothing to do."""
        return self._code.function_at(self.gdb.pc(A)) in IDLE

    def make_scene(self) -> None:
        """Have klp-duel make its scene again; raises HarnessError when it does not get there."""
        self.duel.set(Word.AGAIN, self.round)
        if not self.await_word(Word.ROUNDS, self.round, self.scaled(_SCENE_S)):
            raise HarnessError("its scene is not made again in time")
        problems = self.duel.problems()
        if problems:
            raise HarnessError(f"its scene is not made again: {'; '.join(problems)}")
        self._code = self.scene.code.with_modules(self.duel.earlier_modules(), self.scene.files)

    def is_a(self) -> bool:
        """Return whether CPU 0 executes A's task."""
        return self.is_a_task(self.task(A))

    def is_a_task(self, task: int) -> bool:
        """Return whether a task is A's."""
        return task == self._a_task

    def task(self, cpu: int) -> int:
        """Return the address of the task that a CPU executes."""
        address = self.percpu(cpu, self._current)
        return int.from_bytes(self.gdb.read(address, _WORD, cpu), "little")

    def percpu(self, cpu: int, distance: int) -> int:
        """Return where a CPU has a variable of its own, by `KernelCode.percpu`."""
        registers = self.gdb.registers(cpu)
        in_kernel = registers["rip"] >> 63
        base = registers["gs_base"] if in_kernel else registers["k_gs_base"]
        return (base + distance) & ((1 << 64) - 1)

    def mapped(self) -> tuple[tuple[int, int], ...]:
        """Return the ranges of addresses that are in use, in their order.

        Raises QemuFailed when QEMU's monitor does not say.
        """
        said = self._hypervisor.monitor.human("info mem", deadline=Deadline.after(_ANSWER_S))
        found = [(int(start, 16), int(end, 16)) for start, end in _RANGE.findall(said)]
        if not found:
            raise QemuFailed(f"QEMU's monitor does not say what is mapped: {said.strip()[:80]}")
        return tuple(sorted(found))

    def count_address(self) -> int | None:
        """Return where CPU 0 counts what keeps it from another task; None where all does."""
        return self.percpu(A, preempt_count(self._code)) if self._code.preempts else None

    def serves(self) -> tuple[bool, int]:
        """Return whether CPU 0 takes interrupts, and that number: 0 where there is none."""
        address = self.count_address()
        count = read_count(self.gdb, address, A) if address is not None else 0
        return bool(self.gdb.registers(A)["eflags"] & INTERRUPTS), count

    def set_breakpoints(self, addresses: Iterable[int]) -> None:
        """Have CPUs stop at all of these."""
        for address in addresses:
            self.gdb.set_breakpoint(address)

    def _clear_breakpoints(self, addresses: Collection[int]) -> None:
        for address in addresses:
            self.gdb.clear_breakpoint(address)

    def _has_failed(self) -> bool:
        return bool(self._hypervisor.unexpected_splats())


def ignored(_: Stop) -> None:
    """Do nothing about a breakpoint."""
