# SPDX-License-Identifier: GPL-2.0-only
"""Whether a guest could run, from what /proc says of QEMU's threads."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness.deadline import Deadline, wait_until
from harness.errors import (
    CommandTimeout,
    GuestStarved,
    GuestStopped,
    HarnessError,
    KlpError,
    LostConnection,
    QemuFailed,
)
from harness.vm.guest import liveness
from harness.vm.guest.agent_link import AgentLink
from harness.vm.guest.liveness import Ledger, Liveness, Lost, ThreadTimes, check_lost, read_threads
from harness.vm.host.process import spawn

if TYPE_CHECKING:
    from collections.abc import Iterator

STEP_S = 0.5


class Monitor:
    """A monitor that says one thing, or nothing."""

    def __init__(self, says: str | None = "running") -> None:
        self._says = says

    def status(self, *, deadline: Deadline) -> str:
        if self._says is None:
            raise CommandTimeout("no answer")
        return self._says


def _thread(state: str, ran_s: float = 0.0, waited_s: float = 0.0) -> dict[int, ThreadTimes]:
    return {7: ThreadTimes(state=state, ran_s=ran_s, waited_s=waited_s)}


def _over(seconds: int, *, state: str, runs: float = 0.0, waits: float = 0.0) -> Lost:
    """Return what is lost when a thread has that state, and runs and waits for such shares."""
    ledger = Ledger(0.0)
    for n in range(1, int(seconds / STEP_S) + 1):
        now_s = n * STEP_S
        ledger.add(now_s, _thread(state, runs * now_s, waits * now_s))
    return ledger.lost_since(0.0)


@pytest.fixture
def sleeper() -> Iterator[int]:
    """A process that sleeps."""
    with spawn([sys.executable, "-c", "import time; time.sleep(600)"]) as child:
        yield child.pid


def test_a_guest_that_spins_has_lost_nothing() -> None:
    """One that hangs with interrupts off gets all the CPU: the verdict on it stands."""
    lost = _over(60, state="R", runs=1.0)
    assert lost.could_run_s == pytest.approx(60)
    check_lost(lost)


def test_an_idle_guest_has_lost_nothing() -> None:
    """A guest in which nothing runs could have run."""
    check_lost(_over(60, state="S", runs=0.01))


@pytest.mark.parametrize("state", ["T", "t"])
def test_a_stop(state: str) -> None:
    """SIGSTOP and a debugger are told, with how long they lasted."""
    with pytest.raises(GuestStopped, match="was stopped for 60 s"):
        check_lost(_over(60, state=state))


def test_a_stop_in_between() -> None:
    """A stop that is over is still why a wait was in vain; one before the wait is not."""
    ledger = Ledger(0.0)
    for n in range(1, 41):
        ledger.add(n * STEP_S, _thread("T" if 10 <= n < 20 else "S"))
    with pytest.raises(GuestStopped, match="5 of 20 s"):
        check_lost(ledger.lost_since(0.0))
    check_lost(ledger.lost_since(12.0))
    assert ledger.stopped_for_s(20.0) == 0.0


def test_waiting_for_a_cpu() -> None:
    """A guest that got a twentieth of a CPU is starved; one that got half is not."""
    with pytest.raises(GuestStarved, match=r"3 of 60 s only"):
        check_lost(_over(60, state="R", runs=0.05, waits=0.95))
    check_lost(_over(60, state="R", runs=0.5, waits=0.5))


def test_waiting_without_ever_running() -> None:
    """The kernel counts a wait only once it is over: one that is not is seen all the same."""
    with pytest.raises(GuestStarved):
        check_lost(_over(60, state="R"))


def test_a_harness_that_did_not_run() -> None:
    """After Ctrl-Z and fg all deadlines have passed: nobody looked, so nobody knows."""
    ledger = Ledger(0.0)
    ledger.add(0.5, _thread("S"))
    ledger.add(60.0, _thread("S"))
    with pytest.raises(GuestStarved, match="the harness itself did not run"):
        check_lost(ledger.lost_since(0.0))


def test_threads_are_read(sleeper: int) -> None:
    """State and times are those of /proc; a process that has ended has no threads."""
    (times,) = read_threads(Path(f"/proc/{sleeper}/task")).values()
    assert times.state in "RSD"
    assert times.ran_s >= 0
    assert read_threads(Path("/proc/0/task")) == {}


def test_a_process_that_is_stopped(sleeper: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stop is told to whoever waits, and before a verdict; afterwards all is well again."""
    monkeypatch.setattr(liveness, "SAMPLE_S", 0.05)
    monkeypatch.setattr(liveness, "STOPPED_S", 0.2)
    watched = Liveness(sleeper, Monitor())
    try:
        watched.require_ran(0.0)
        assert watched.problem() is None
        os.kill(sleeper, signal.SIGSTOP)
        assert wait_until(lambda: watched.problem() is not None, Deadline.after(20))
        assert isinstance(watched.problem(), GuestStopped)
        os.kill(sleeper, signal.SIGCONT)
        assert wait_until(lambda: watched.problem() is None, Deadline.after(20))
    finally:
        watched.close()


@pytest.mark.parametrize(
    ("says", "error", "sentence"),
    [
        (None, QemuFailed, "does not answer on its monitor"),
        ("paused", GuestStopped, "its state is `paused`"),
        ("io-error", GuestStopped, "its state is `io-error`"),
    ],
)
def test_what_the_monitor_says(
    sleeper: int, says: str | None, error: type[HarnessError], sentence: str
) -> None:
    """A monitor that is silent, or says that the guest does not run, ends all verdicts."""
    watched = Liveness(sleeper, Monitor(says))
    try:
        with pytest.raises(error, match=sentence) as raised:
            watched.require_ran(0.0)
    finally:
        watched.close()
    assert raised.value.exit_code == 3
    assert raised.value.hint


def test_stalls_after_a_stop_are_excused(sleeper: int) -> None:
    """A guest that was stopped finds its CPUs stuck: its report is kept, and is no splat."""
    watched = Liveness(sleeper, Monitor())
    try:
        assert watched.excuse(("BUG: soft lockup",)) is None
        watched._ledger._stopped_s += 30.0
        excuse = watched.excuse(("BUG: soft lockup",))
    finally:
        watched.close()
    assert isinstance(excuse, GuestStopped)
    assert excuse.details == ("BUG: soft lockup",)


class Backend:
    """A guest that could not run since a moment, and could on the whole."""

    def __init__(self, since_s: float) -> None:
        self._since_s = since_s

    def settle(self) -> None:
        pass

    def explain(self, error: KlpError) -> KlpError:
        return error

    def require_ran(self, since_s: float) -> None:
        if since_s >= self._since_s:
            raise GuestStarved("it waited for a CPU")


@pytest.mark.parametrize(("starved_s", "kind"), [(0.0, GuestStarved), (1e9, LostConnection)])
def test_a_connection_that_is_lost_by_starvation(starved_s: float, kind: type[KlpError]) -> None:
    """What SSH did not do in time is the starvation of that time, also after a good minute."""
    backend: Any = Backend(starved_s)
    with pytest.raises(kind), AgentLink(backend, 1.0).explained():
        raise LostConnection("cannot start a command in the guest in time")
