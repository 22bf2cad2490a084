# SPDX-License-Identifier: GPL-2.0-only
"""Which functions A and B enter until they end, in their order: for who reads a finding."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Literal

from harness.tools.race.explore.duel import Place
from harness.tools.race.explore.results import ExploreCall
from harness.tools.race.explore.running import ignored

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.tools.race.explore.control import HeldGuest
    from harness.tools.race.explore.points import Point
    from harness.vm.guest.gdb_client import Stop

# Of a function that is entered again and again, as often as that on each CPU.
_MOST = 3
_PATIENCE = 10


class CallRecorder:
    """Takes each entry into a function of kernel/livepatch or of a caller of it."""

    def __init__(self, held: HeldGuest, entries: Mapping[int, Point]) -> None:
        self._held = held
        self._entries = dict(entries)
        self._counts: dict[tuple[int, int], int] = {}
        self._b_task = 0
        self._start_s = time.monotonic()
        self.calls: list[ExploreCall] = []
        self.before = 0
        held.on_stop = self.take
        held.patience = _PATIENCE
        held.set_breakpoints((*self._entries, Place.B_BEGIN))

    def hold(self) -> None:
        """Note that A is held from here on."""
        self.before = len(self.calls)

    def end(self) -> None:
        """Follow it no more. What stops again and again settles otherwise than it would.

        A task that runs, and so holds a transition, is often off its CPU then.
        """
        self._held.on_stop, self._held.patience = ignored, 1
        for address in (*self._entries, Place.B_BEGIN):
            self._held.gdb.clear_breakpoint(address)

    def take(self, stop: Stop) -> None:
        """Look at a breakpoint that a CPU has met."""
        cpu = stop.cpu or 0
        pc = self._held.gdb.pc(cpu)
        if pc == Place.B_BEGIN:
            self._b_task = self._held.task(cpu)
            return
        point = self._entries.get(pc)
        if point is None:
            return
        count = self._counts[cpu, pc] = self._counts.get((cpu, pc), 0) + 1
        if count > _MOST:
            self._held.gdb.clear_breakpoint(pc)
            del self._entries[pc]
            return
        self.calls.append(
            ExploreCall(
                by=self._who(cpu),
                cpu=cpu,
                function=point.function,
                at_ms=(time.monotonic() - self._start_s) * 1000,
            )
        )

    def _who(self, cpu: int) -> Literal["A", "B", "other"]:
        task = self._held.task(cpu)
        if self._held.is_a_task(task):
            return "A"
        return "B" if task == self._b_task else "other"
