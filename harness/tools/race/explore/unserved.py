# SPDX-License-Identifier: GPL-2.0-only
"""Running to a breakpoint with the gdb server closed, so that QEMU keeps what it has translated."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from harness.deadline import Deadline
from harness.errors import QemuFailed
from harness.tools.race.explore.looks import slices

if TYPE_CHECKING:
    from collections.abc import Collection

    from harness.tools.race.explore.duel import Duel
    from harness.vm.guest.gdb_client import GdbClient
    from harness.vm.guest.gdb_server import GdbServer
    from harness.vm.guest.hypervisor import Hypervisor

_ANSWER_S = 20.0
_NUMBER = re.compile(r":\s*0x([0-9a-f]+)")


class UnservedRun:
    """Lets a guest that stands still go on to a place."""

    def __init__(
        self, hypervisor: Hypervisor, server: GdbServer, gdb: GdbClient, duel: Duel
    ) -> None:
        self._hypervisor, self._server, self._gdb, self._duel = hypervisor, server, gdb, duel

    def run(self, places: Collection[int], word: int, least: int, seconds: float) -> bool:
        """Let all CPUs go on until one is at one of these places; return whether one is.

        Not when a number of klp-duel's is large enough, after a splat, or when the time is up. Then
        the guest stands still, and the client is connected again. Raises QemuFailed, OSError.
        """
        monitor, has_met = self._hypervisor.monitor, False
        for address in places:
            self._gdb.set_breakpoint(address)
        self._server.close(self._deadline())
        monitor.execute("cont", deadline=self._deadline())
        for slice_s in slices(seconds):
            has_ended = self._number(word) >= least or bool(self._hypervisor.unexpected_splats())
            # In that order: it may have met the breakpoint just before.
            has_met = monitor.status(deadline=self._deadline()) == "debug"
            if has_ended or has_met:
                break
            self._hypervisor.events.wait(lambda: False, Deadline.after(slice_s))
        if not has_met:
            monitor.execute("stop", deadline=self._deadline())
            has_met = monitor.status(deadline=self._deadline()) == "debug"
        self._gdb.connect(self._server.open(self._deadline()))
        for address in places:
            self._gdb.clear_breakpoint(address)
        return has_met

    def _number(self, word: int) -> int:
        """Return a number of klp-duel's while the guest runs."""
        said = self._hypervisor.monitor.human(
            f"xp /1gx {self._duel.address(word):#x}", deadline=self._deadline()
        )
        found = _NUMBER.search(said)
        if found is None:
            raise QemuFailed(f"QEMU's monitor does not read memory: {said.strip()}")
        return int(found[1], 16)

    @staticmethod
    def _deadline() -> Deadline:
        return Deadline.after(_ANSWER_S)
