# SPDX-License-Identifier: GPL-2.0-only
"""Packets of gdb's remote serial protocol ("GDB Remote Serial Protocol" in gdb's manual).

No Python package for the protocol is kept.
"""

from __future__ import annotations

import select
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import socket

_READ = 1 << 16


class GdbPackets:
    """A connection to a gdb server, which sends requests and receives answers."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._buffer = b""

    def send(self, request: str) -> None:
        """Send a request; raises OSError when the server has ended."""
        data = request.encode("latin-1")
        self._sock.sendall(b"$" + data + b"#%02x" % (sum(data) & 255))

    def interrupt(self) -> None:
        """Ask the server to stop what runs; raises OSError when it has ended."""
        self._sock.sendall(b"\x03")

    def receive(self, timeout_s: float) -> str | None:
        """Return the next answer; None when the time is up. Raises EOFError at the end."""
        end_s = time.monotonic() + timeout_s
        while True:
            start = self._buffer.find(b"$")
            end = self._buffer.find(b"#", start + 1) if start >= 0 else -1
            if end >= 0 and len(self._buffer) >= end + 3:
                body = self._buffer[start + 1 : end]
                self._buffer = self._buffer[end + 3 :]
                self._sock.sendall(b"+")
                return body.decode("latin-1")
            left_s = end_s - time.monotonic()
            if left_s <= 0:
                return None
            # poll(2), since select(2) takes no descriptor above 1023.
            poll = select.poll()
            poll.register(self._sock, select.POLLIN)
            if not poll.poll(left_s * 1000):
                continue
            more = self._sock.recv(_READ)
            if not more:
                raise EOFError("QEMU has closed the connection of its gdb server")
            self._buffer += more
