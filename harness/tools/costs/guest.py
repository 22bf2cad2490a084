# SPDX-License-Identifier: GPL-2.0-only
"""A guest of one CPU whose instructions are counted: its events as they come."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.deadline import wait_until
from harness.errors import EventsLost, HarnessError
from harness.livepatch.gates import Gates
from harness.livepatch.patch import Livepatch
from harness.livepatch.program_output import next_object
from harness.livepatch.waiting import TRANSITION_S, scaled
from harness.observer.plugin_build import obtain_plugin
from harness.observer.shared_file import Flag, SharedFile, make_head
from harness.vm.guest.plugin import Plugin

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from harness.deadline import Deadline
    from harness.observer.shared_file import Event
    from harness.tools.costs.points import CostPoints
    from harness.vm.guest.machine import Machine
    from harness.vm.host.cache import Store

EVENTS = 1 << 23
"""For how many events a guest has room; the file takes room on the disk as it is written."""

CROWD_GATE = 6
_THREADS_MAX = "/proc/sys/kernel/threads-max"
_ROOM = 1_000
_READ_S = 10.0


def make_plugin(points: CostPoints, folder: Path, store: Store, deadline: Deadline) -> Plugin:
    """Return the plugin that observes these points; raises HarnessError where there is none."""
    built = obtain_plugin(store, deadline=deadline)
    head, size = make_head(
        points=points.points(),
        flags=(Flag.CLOCK | Flag.MODULE_CALLS | Flag.MODULE_ENTRIES | Flag.SWITCHES | built.flags),
        events=EVENTS,
    )
    return Plugin(library=built.library, head=head, size=size, folder=folder)


class CostGuest:
    """A guest with the gates of klp_target_gate, and the stream of its events."""

    def __init__(self, machine: Machine, modules: Mapping[str, Path]) -> None:
        assert machine.hypervisor.observed is not None
        self.machine = machine
        self.livepatch = Livepatch(machine, modules=modules)
        self.livepatch.load_target("klp_target_gate")
        self.gates = Gates(machine)
        self._path = machine.hypervisor.observed
        self._taken = 0
        self._asleep = 0

    def events(self) -> tuple[Event, ...]:
        """Return the events since the last call.

        Raises EventsLost when there was no room for all.
        """
        found: tuple[Event, ...] = ()

        def read() -> bool:
            nonlocal found
            file = SharedFile(self._path)
            if file.lost:
                raise EventsLost(
                    f"{file.lost} events are lost: the costs cannot be measured",
                    hint="measure fewer sizes: --quick",
                )
            found = tuple(file.events(self._taken))
            # One that the guest was just writing is left out, and would be missed.
            return len(found) == int(file.head.n_events) - self._taken

        if not wait_until(read, scaled(self.machine, _READ_S)):
            raise HarnessError("the plugin of QEMU does not finish an event")
        self._taken += len(found)
        return found

    def addresses(self) -> dict[str, int]:
        """Return where the functions of the loaded modules are."""
        ran = self.machine.run(["grep", "-F", "klp_", "/proc/kallsyms"])
        found = {}
        for row in ran.stdout.splitlines():
            words = row.split()
            if len(words) == 4:
                found[words[2]] = int(words[0], 16)
        return found

    def crowd(self, sleepers: int) -> None:
        """Have so many threads sleep, in no function that is patched; there are never fewer."""
        more = sleepers - self._asleep
        if not more:
            return
        deadline = scaled(self.machine, 4 * TRANSITION_S)
        self.machine.write(_THREADS_MAX, f"{2 * sleepers + _ROOM}\n")
        self.gates.close(CROWD_GATE)
        process = self.machine.spawn("klp-sleepers", str(more), str(CROWD_GATE))
        next_object(process, "klp-sleepers", deadline, key="entering")
        self._asleep = sleepers
        gate = self.gates[CROWD_GATE]
        if not wait_until(lambda: len(gate.waiting()) == sleepers, deadline, interval_s=0.3):
            raise HarnessError(f"{len(gate.waiting())} of {sleepers} threads sleep")

    def tasks(self) -> int:
        """Return how many threads there are."""
        return len(self.machine.tasks().tasks)
