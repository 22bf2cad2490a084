# SPDX-License-Identifier: GPL-2.0-only
"""QEMU's monitor, over a socket behind which a thread answers."""

from __future__ import annotations

import json
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from harness.deadline import Deadline, wait_until
from harness.errors import CommandTimeout, GuestStopped, QemuFailed
from harness.vm.guest.qmp import Monitor

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_GREETING = {"QMP": {"version": {"qemu": {"major": 7, "minor": 2, "micro": 0}}, "capabilities": []}}
_SOON_S = 20.0


def _serve(sock: socket.socket) -> None:
    """Answer each command with its own name; to ``quit`` end, to ``stop`` say nothing."""
    with sock:
        sock.sendall(_line(_GREETING))
        # A command comes as a whole, with no end of line, and the next one after its answer.
        while received := sock.recv(4096):
            asked = json.loads(received)
            if asked["execute"] == "quit":
                return
            if asked["execute"] == "system_reset":
                sock.sendall(_line({"event": "RESET", "timestamp": {"seconds": 1}}))
            if asked["execute"] != "stop":
                sock.sendall(_line({"return": {"asked": asked["execute"]}, "id": asked.get("id")}))


def _line(message: Mapping[str, Any]) -> bytes:
    return json.dumps(message).encode() + b"\r\n"


def connected(
    on_event: Callable[[str, Mapping[str, Any]], None] = lambda _name, _data: None,
) -> Monitor:
    ours, theirs = socket.socketpair()
    threading.Thread(target=_serve, args=(theirs,), daemon=True).start()
    monitor = Monitor(ours, on_event)
    monitor.connect(Deadline.after(_SOON_S))
    return monitor


def test_guests_may_start_together() -> None:
    """Monitors that several threads connect at once each get their own answers."""
    meet = threading.Barrier(4)

    def start(_: int) -> Monitor:
        meet.wait(_SOON_S)
        return connected()

    with ThreadPoolExecutor(4) as pool:
        monitors = list(pool.map(start, range(4)))
    for monitor in monitors:
        answer = monitor.execute("query-status", deadline=Deadline.after(_SOON_S))
        assert answer == {"asked": "query-status"}
        monitor.close()


def test_a_monitor_leaves_no_thread_behind() -> None:
    """A process that starts thousands of guests keeps no thread of any that has ended."""
    before = threading.active_count()
    for _ in range(3):
        connected().close()
    assert threading.active_count() <= before + 3  # the servers above may still be ending
    assert not [thread for thread in threading.enumerate() if thread.name == "qmp"]


def test_events_are_passed_on() -> None:
    """Whoever waits for a guest hears of a reset without asking."""
    seen = threading.Event()
    monitor = connected(lambda name, _data: seen.set() if name == "RESET" else None)
    monitor.execute("system_reset", deadline=Deadline.after(_SOON_S))
    assert seen.wait(_SOON_S)
    monitor.close()


def test_no_answer_and_no_qemu() -> None:
    """A monitor that is silent is a time-out, one that is gone a failure of QEMU; both close."""
    monitor = connected()
    with pytest.raises(CommandTimeout, match="`stop` in time"):
        monitor.execute("stop", deadline=Deadline.after(0.2))
    with pytest.raises(QemuFailed, match="`quit`"):
        monitor.execute("quit", deadline=Deadline.after(_SOON_S))
    monitor.close()


def test_an_interrupt_before_the_greeting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while QEMU starts is Ctrl-C: nothing else comes out, of this thread or of another."""
    raised_elsewhere: list[object] = []
    monkeypatch.setattr(threading, "excepthook", raised_elsewhere.append)
    ours, theirs = socket.socketpair()

    def interrupt() -> None:
        theirs.close()  # QEMU ends with its guest, at any moment of this
        raise KeyboardInterrupt

    monitor = Monitor(ours, lambda _name, _data: None, interrupt)
    with pytest.raises(KeyboardInterrupt):
        monitor.connect(Deadline.after(_SOON_S))
    monitor.close()
    assert raised_elsewhere == []


def test_the_guest_is_watched_while_qemu_is_silent() -> None:
    """What the look at the guest raises ends the wait for an answer."""

    def look() -> None:
        raise GuestStopped("stopped")

    ours, theirs = socket.socketpair()
    monitor = Monitor(ours, lambda _name, _data: None, look)
    with pytest.raises(GuestStopped):
        monitor.connect(Deadline.after(_SOON_S))
    theirs.close()
    monitor.close()


def test_events_that_cannot_be_taken_are_told() -> None:
    """Whoever waits for a guest hears that its events are not heard any more."""

    def broken(_name: str, _data: Mapping[str, Any]) -> None:
        raise RuntimeError("for the test")

    monitor = connected(broken)
    assert monitor.problem() is None
    monitor.execute("system_reset", deadline=Deadline.after(_SOON_S))
    assert wait_until(lambda: monitor.problem() is not None, Deadline.after(_SOON_S))
    assert "RuntimeError" in str(monitor.problem())
    monitor.close()
