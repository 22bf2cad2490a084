# SPDX-License-Identifier: GPL-2.0-only
"""Whether a guest could run at all: here a hang is distinguished from a fault of the host.

A verdict on a kernel that rests on time (it does not answer, it did not get there) holds only if
the guest had that time. It had not while QEMU was stopped (a state of T or t in /proc/PID/stat,
proc(5)), while QEMU's threads waited for a CPU (/proc/PID/schedstat of Linux,
Documentation/scheduler/sched-stats.rst), or while the harness itself did not run. A guest that
spins with interrupts off does get CPU time: that it hangs is its own fault.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from harness.deadline import Deadline
from harness.errors import CommandTimeout, GuestStarved, GuestStopped, HarnessError, QemuFailed

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

SAMPLE_S = 0.5
# Longer without a sample: this process was stopped, or got no CPU itself.
_UNSEEN_S = 3.0
# QEMU in a stop of this length is not waited for any longer.
STOPPED_S = 5.0
# A stop of this length, seen during a wait, is the reason why the wait was in vain.
_ANY_STOP_S = 1.0
# A wait in vain says something about the guest when it could run for this share of the wait. Four
# guests share a core (see harness.vm.host.capacity), and deadlines allow for that.
LEAST_SHARE = 1 / 4
ANSWER_S = 10.0
_KEPT = 4096
# How far back a stop may lie that the guest's detectors complain about (khungtaskd looks every two
# minutes), and how long a time without CPU they answer to.
_STALLS_S, _STARVED_S = 600.0, 60.0
_STOPPED = frozenset("Tt")
_RUNNABLE = "R"
# States of QEMU in which the guest's CPUs run, or will at once (qapi/run-state.json of QEMU). What
# a guest did to itself is known from its events.
_RUNS = frozenset({"running", "guest-panicked", "shutdown"})


@dataclass(frozen=True, kw_only=True, slots=True)
class ThreadTimes:
    """One thread of QEMU: its state, and for how long it ran and waited for a CPU, in seconds."""

    state: str
    ran_s: float
    waited_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Lost:
    """Seconds in which a guest could not run, by reason, and since when they were counted."""

    wall_s: float = 0.0
    stopped_s: float = 0.0
    starved_s: float = 0.0
    unseen_s: float = 0.0

    @property
    def could_run_s(self) -> float:
        """For how many seconds the guest could run."""
        return max(0.0, self.wall_s - self.stopped_s - self.starved_s - self.unseen_s)


class Asked(Protocol):
    """The monitor of QEMU, as far as it is asked here."""

    def status(self, *, deadline: Deadline) -> str:
        """Return QEMU's run state; raises CommandTimeout, QemuFailed."""


class Ledger:
    """Adds up, from samples of QEMU's threads, for how long it could not run. Pure.

    The kernel adds to a thread's waiting time once the thread has got a CPU. Until then it is the
    time for which the thread has been ready to run and has not run.
    """

    def __init__(self, now_s: float) -> None:
        self._threads: Mapping[int, ThreadTimes] = {}
        self._last_s = now_s
        self._stopped_s = 0.0
        self._starved_s = 0.0
        self._unseen_s = 0.0
        self._stopped_since_s: float | None = None
        self._known: deque[tuple[float, float, float, float]] = deque(maxlen=_KEPT)
        self._known.append((now_s, 0.0, 0.0, 0.0))

    def add(self, now_s: float, threads: Mapping[int, ThreadTimes]) -> None:
        """Take what QEMU's threads are now; none of them after its end."""
        passed_s = max(0.0, now_s - self._last_s)
        if passed_s > _UNSEEN_S:
            # Nobody looked: neither QEMU's times nor ours say what happened.
            self._unseen_s += passed_s
            self._stopped_since_s = None
        elif any(each.state in _STOPPED for each in threads.values()):
            self._stopped_s += passed_s
            if self._stopped_since_s is None:
                self._stopped_since_s = now_s
        else:
            self._stopped_since_s = None
            self._starved_s += min(passed_s, self._waited(passed_s, threads))
        self._threads = threads
        self._last_s = now_s
        self._known.append((now_s, self._stopped_s, self._starved_s, self._unseen_s))

    def stopped_for_s(self, now_s: float) -> float:
        """Return for how long QEMU has been seen stopped without a break; 0 when it is not."""
        return 0.0 if self._stopped_since_s is None else now_s - self._stopped_since_s

    def lost_since(self, since_s: float) -> Lost:
        """Return what the guest has lost since a moment of ``time.monotonic()``."""
        before = self._known[0]
        for known in reversed(self._known):
            before = known
            if known[0] <= since_s:
                break
        return Lost(
            wall_s=max(0.0, self._last_s - before[0]),
            stopped_s=self._stopped_s - before[1],
            starved_s=self._starved_s - before[2],
            unseen_s=self._unseen_s - before[3],
        )

    def _waited(self, passed_s: float, threads: Mapping[int, ThreadTimes]) -> float:
        """Return for how long the thread that waited longest waited since the last sample."""
        longest_s = 0.0
        for tid, now in threads.items():
            before = self._threads.get(tid)
            if before is None:
                continue
            still_waits = now.state == before.state == _RUNNABLE and now.ran_s <= before.ran_s
            waited_s = passed_s if still_waits else now.waited_s - before.waited_s
            longest_s = max(longest_s, waited_s)
        return longest_s


class Liveness:
    """Watches one QEMU from a thread of its own, until ``close``."""

    def __init__(self, pid: int, monitor: Asked | None, *, proc: Path = Path("/proc")) -> None:
        """Begin; without a monitor, QEMU's threads alone are asked."""
        self._tasks = proc / str(pid) / "task"
        self._monitor = monitor
        self._ledger = Ledger(time.monotonic())
        self._lock = threading.Lock()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="liveness", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop watching."""
        self._end.set()
        self._thread.join()

    def problem(self) -> HarnessError | None:
        """Return GuestStopped when QEMU has been stopped for some seconds."""
        with self._lock:
            stopped_s = self._ledger.stopped_for_s(time.monotonic())
        return _stopped(stopped_s, stopped_s) if stopped_s >= STOPPED_S else None

    def lost_since(self, since_s: float) -> Lost:
        """Return what the guest has lost since a moment of ``time.monotonic()``."""
        self._sample()
        with self._lock:
            return self._ledger.lost_since(since_s)

    def require_ran(self, since_s: float, *, share: float = LEAST_SHARE) -> None:
        """Raise unless the guest could run since that moment, and QEMU answers and says it runs.

        To be called before a wait in vain becomes a verdict; ``share`` is how much of the time it
        must have been able to run. Raises GuestStopped, GuestStarved, and QemuFailed when the
        monitor is silent or has ended.
        """
        check_lost(self.lost_since(since_s), share)
        if self._monitor is None:
            return
        asked_s = time.monotonic()
        try:
            state = self._monitor.status(deadline=Deadline.after(ANSWER_S))
        except CommandTimeout:
            check_lost(self.lost_since(asked_s), share)
            raise QemuFailed(
                f"QEMU does not answer on its monitor within {ANSWER_S:.0f} s: nothing can be said "
                "about its guest",
                hint="look for what holds QEMU up (a debugger, a frozen cgroup, a disk that does "
                "not answer), and run again",
            ) from None
        if state not in _RUNS:
            raise GuestStopped(
                f"QEMU does not let the guest run: its state is `{state}`",
                hint="qemu.log may say why; run again",
            )

    def excuse(self, lines: tuple[str, ...]) -> HarnessError | None:
        """Return the error that explains what the guest printed, None without one.

        A guest that was stopped, or waited for a CPU, finds afterwards that its clock has jumped:
        its detectors blame its CPUs and tasks, and its timers warn. ``lines`` are those of the
        report.
        """
        now_s = time.monotonic()
        before = self.lost_since(now_s - _STALLS_S)
        if before.stopped_s + before.unseen_s < STOPPED_S:
            before = self.lost_since(now_s - _STARVED_S)
        try:
            check_lost(before, LEAST_SHARE)
        except HarnessError as error:
            error.details = lines
            return error
        return None

    def _watch(self) -> None:
        while not self._end.wait(SAMPLE_S):
            self._sample()

    def _sample(self) -> None:
        threads = read_threads(self._tasks)
        with self._lock:
            self._ledger.add(time.monotonic(), threads)


def check_lost(lost: Lost, share: float = LEAST_SHARE) -> None:
    """Raise GuestStopped or GuestStarved when that loss is why a wait was in vain."""
    if lost.stopped_s >= _ANY_STOP_S:
        raise _stopped(lost.stopped_s, lost.wall_s)
    if lost.wall_s > _UNSEEN_S and lost.could_run_s < share * lost.wall_s:
        raise _starved(lost)


def read_threads(tasks: Path) -> dict[int, ThreadTimes]:
    """Return the threads of the process with that ``task`` folder; none when it has ended."""
    found: dict[int, ThreadTimes] = {}
    for folder in _folders(tasks):
        # A thread may end while it is looked at.
        with contextlib.suppress(OSError, IndexError, ValueError):
            state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
            ran_ns, waited_ns = (folder / "schedstat").read_text().split()[:2]
            found[int(folder.name)] = ThreadTimes(
                state=state, ran_s=int(ran_ns) / 1e9, waited_s=int(waited_ns) / 1e9
            )
    return found


def _folders(tasks: Path) -> Iterable[Path]:
    try:
        return list(tasks.iterdir())
    except OSError:
        return ()


def _stopped(stopped_s: float, wall_s: float) -> HarnessError:
    how_long = f"{stopped_s:.0f} s" if wall_s <= stopped_s else f"{stopped_s:.0f} of {wall_s:.0f} s"
    return GuestStopped(
        f"QEMU was stopped for {how_long} while its guest was waited for",
        hint="it got SIGSTOP, or a debugger holds it; nothing is said about the kernel: run again",
    )


def _starved(lost: Lost) -> HarnessError:
    if lost.unseen_s > lost.starved_s:
        return GuestStarved(
            f"the harness itself did not run for {lost.unseen_s:.0f} of {lost.wall_s:.0f} s",
            hint="it was stopped (Ctrl-Z), or the host is overloaded or was suspended: run again",
        )
    return GuestStarved(
        f"the guest could run for {lost.could_run_s:.0f} of {lost.wall_s:.0f} s only: QEMU waited "
        "for a CPU the rest of the time",
        hint="the host is overloaded: run again with fewer guests, or when less else runs",
    )
