# SPDX-License-Identifier: GPL-2.0-only
"""A fresh guest of a model in which a measure of ``models compare`` is taken.

Times are the guest's: those of records in its kernel log.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.agent_protocol import Op
from harness.deadline import Deadline, wait_until
from harness.errors import HarnessError, KernelVerdict
from harness.livepatch.gates import Gates
from harness.livepatch.kernel_log import KernelLog
from harness.livepatch.patch import Livepatch
from harness.livepatch.program_output import next_object
from harness.livepatch.waiting import QUICK_S, TRANSITION_S, poll, scaled
from harness.tools.models.holders import SLEEPERS, who_holds
from harness.tools.models.rows import LIMIT_S

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from harness.agent_protocol import KlogRecord
    from harness.livepatch.guest import Guest, GuestProcess
    from harness.livepatch.modules import Parameter
    from harness.livepatch.patch import Patch
    from harness.tools.models.cells import Cell

INTERRUPTIBLE = 3  # the gate whose sleepers take signals
BEGIN, END = "enabling patch", "patching complete"
# Attempts in which the kernel could have ended a transition: one a second, by its own clock.
ATTEMPTS_S = 3.0
# Two functions that must change together; reading the file calls both, and sleeps between them.
PAIR_TARGET, PAIR_PATCH, PAIR_GATE = "klp_target_pair", "klp_test_pair", 5
PAIR_FILE = "/sys/kernel/klp_pair/gate"
_WARM_UP = "klp_test_syscall"
_SWITCHES = re.compile(
    r"/proc/\d+/task/(?P<tid>\d+)/status:(?:non)?voluntary_ctxt_switches:\s*(?P<count>\d+)$"
)


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a transition ended: seconds since its start, or why it had not by the limit."""

    seconds: float | None
    why: str | None = None


class BenchGuest:
    """A guest with the gates of klp_target_gate; ``cell`` is the place of its model."""

    def __init__(self, guest: Guest, modules: Mapping[str, Path], cell: Cell) -> None:
        self.guest = guest
        self.modules = modules
        self.cell = cell
        self.livepatch = Livepatch(guest, modules=modules)
        self.livepatch.load_target("klp_target_gate")
        self.gates = Gates(guest)
        self.log = KernelLog(guest)
        self._asleep = 0

    def crowd(self, number: int) -> GuestProcess:
        """Have so many more threads sleep interruptibly, in no patched function.

        Raises HarnessError when they do not all sleep in time.
        """
        deadline = scaled(self.guest, 4 * TRANSITION_S)
        self.gates.close(INTERRUPTIBLE)
        process = self.guest.spawn(SLEEPERS, str(number), str(INTERRUPTIBLE))
        next_object(process, SLEEPERS, deadline, key="entering")
        self._asleep += number
        self.await_crowd(deadline)
        return process

    def await_crowd(self, deadline: Deadline | None = None) -> None:
        """Wait until all threads of all crowds sleep; raises HarnessError."""
        deadline = deadline or scaled(self.guest, TRANSITION_S)
        gate = self.gates[INTERRUPTIBLE]
        if not wait_until(lambda: len(gate.waiting()) == self._asleep, deadline, interval_s=0.3):
            raise HarnessError(f"{len(gate.waiting())} of {self._asleep} threads sleep")

    def timed_load(self, name: str, **params: Parameter) -> Ended:
        """Load a livepatch and wait for the end of its transition, or the limit."""
        self.log.mark()
        patch = self.livepatch.load(name, wait=False, deadline=None, **params)
        return self.timed_end(patch, BEGIN)

    def warm_up(self) -> Ended:
        """Let one transition go by: under TCG, code that runs for the first time is translated."""
        return self.timed_load(_WARM_UP)

    def timed_end(self, patch: Patch, since: str, end: str = END) -> Ended:
        """Wait for the end of a transition, or the limit; its seconds count from a record."""
        if not patch.completes(Deadline.after(LIMIT_S)):
            return Ended(seconds=None, why=self.who_holds(patch))
        return Ended(seconds=span_s(self.log.since_mark(), since, end))

    def mark(self, text: str) -> str:
        """Write a line to the kernel log, from which a time can count; return it."""
        line = f"klp-harness: {text}"
        self.guest.write("/dev/kmsg", f"<6>{line}\n")
        return line

    def give_time(self, patch: Patch) -> bool:
        """Give the kernel three attempts; return whether the transition is open still."""
        path = f"{patch.path}/transition"
        ended = poll(self.guest, path, Op.DIFFERS, "1", deadline=Deadline.after(ATTEMPTS_S))
        return not ended

    def who_holds(self, patch: Patch) -> str:
        """Return who keeps the transition from its end, in words."""
        return who_holds(self.livepatch, patch)

    def call(self, path: str) -> str:
        """Let a new task read a file, which calls a function; return its first line."""
        process = self.guest.spawn("/bin/cat", path)
        return process.next_line(scaled(self.guest, QUICK_S))

    def hold(self, path: str, gate: int) -> GuestProcess:
        """Let a new task read a file and sleep in a gate on the way; return it then."""
        self.gates.close(gate)
        process = self.guest.spawn("/bin/cat", path)
        self.gates[gate].await_task(process.pid)
        return process

    def answer(self, process: GuestProcess, gate: int) -> str:
        """Open the gate of a task that `hold` returned; return the first line that it read."""
        self.gates.open(gate)
        return process.next_line(scaled(self.guest, QUICK_S))

    def switches(self, process: GuestProcess) -> dict[int, int]:
        """Return how often each thread of a process was switched, but for its first one."""
        files = f"/proc/{process.pid}/task/*/status"
        grep = self.guest.spawn("sh", "-c", f"grep -H ctxt_switches {files}")
        found = count_switches(grep.lines(scaled(self.guest, TRANSITION_S)))
        return {tid: count for tid, count in found.items() if tid != process.pid}


def span_s(records: Iterable[KlogRecord], begin: str, end: str) -> float:
    """Return the seconds between the first record with one text and the next with another.

    Raises KernelVerdict when the kernel did not log them.
    """
    start_us: int | None = None
    for record in records:
        if start_us is None:
            start_us = record.us if begin in record.text else None
        elif end in record.text:
            return (record.us - start_us) * 1e-6
    missing = begin if start_us is None else end
    raise KernelVerdict(f"the kernel did not log {missing!r}")


def count_switches(lines: Iterable[str]) -> dict[int, int]:
    """Return the context switches of each thread, from the lines that grep printed.

    Raises HarnessError for a line that is none of them.
    """
    counts: dict[int, int] = {}
    for line in lines:
        match = _SWITCHES.match(line)
        if match is None:
            raise HarnessError(f"no count of context switches: {line!r}")
        tid = int(match["tid"])
        counts[tid] = counts.get(tid, 0) + int(match["count"])
    return counts
