# SPDX-License-Identifier: GPL-2.0-only
"""QEMU's monitor, asked by threads that start guests side by side."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from harness.deadline import Deadline
from harness.vm.guest import qmp
from harness.vm.guest.qmp import Monitor

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pytest

_GREETING = {"QMP": {"version": {"qemu": {"major": 7, "minor": 2, "micro": 0}}, "capabilities": []}}
_MEET_S = 0.5
_SOON_S = 20.0


def _serve(sock: socket.socket) -> None:
    """Answer each command with its own name, as a monitor that takes everything."""
    with sock:
        sock.sendall(_line(_GREETING))
        # A command comes as a whole, with no end of line, and the next one after its answer.
        while received := sock.recv(4096):
            asked = json.loads(received)
            sock.sendall(_line({"return": {"asked": asked["execute"]}, "id": asked.get("id")}))


def _line(message: Mapping[str, Any]) -> bytes:
    return json.dumps(message).encode() + b"\r\n"


def _served(meet: threading.Barrier) -> Monitor:
    ours, theirs = socket.socketpair()
    threading.Thread(target=_serve, args=(theirs,), daemon=True).start()
    monitor = Monitor(ours, lambda _name, _data: None)
    meet.wait(_SOON_S)
    monitor.connect(Deadline.after(_SOON_S))
    return monitor


def test_the_first_two_guests_may_start_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever connects first, every later request and the end reach the monitor's own loop."""
    made: list[asyncio.AbstractEventLoop] = []
    meet_inside = threading.Barrier(2)
    new_event_loop = asyncio.new_event_loop

    def slow() -> asyncio.AbstractEventLoop:
        with contextlib.suppress(threading.BrokenBarrierError):
            meet_inside.wait(_MEET_S)
        made.append(new_event_loop())
        return made[-1]

    qmp._the_loop.cache_clear()
    monkeypatch.setattr(asyncio, "new_event_loop", slow)
    meet = threading.Barrier(2)
    with ThreadPoolExecutor(2) as pool:
        monitors = list(pool.map(_served, [meet, meet]))
    for monitor in monitors:
        answer = monitor.execute("query-status", deadline=Deadline.after(_SOON_S))
        assert answer == {"asked": "query-status"}
        monitor.close()
    assert len(made) == 1
