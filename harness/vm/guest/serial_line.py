# SPDX-License-Identifier: GPL-2.0-only
"""The connection to the agent of a guest that is recorded, and so has no network: a serial port.

QEMU 7.2 passes recorded input to its serial port without checking that it has room, and the port
holds 16 bytes. So no more are sent before the agent has reported that it took those. Output of the
guest must always find room as well: a write that fails is not replayed. Hence a pipe, which holds a
mebibyte; a socket is full after some hundred writes of one byte.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import socket
import threading
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import LostConnection

if TYPE_CHECKING:
    from harness.deadline import Deadline
    from harness.vm.guest.console import SerialEnd

PORT_BYTES = 16
PIPE_BYTES = 1 << 20
_TAKEN = b'{"event":"taken",'
_READ = 65536
_LOOK_S = 0.25


def serial_ends(*, recorded: bool) -> tuple[SerialEnd, SerialEnd]:
    """Return both ends of a guest's console, ours and QEMU's: of a recorded guest a pipe."""
    if not recorded:
        return socket.socketpair()
    ours, theirs = os.pipe()
    widen(ours)
    return FileIO(ours, "rb"), FileIO(theirs, "wb")


class SerialLine:
    """Both ends of what QEMU calls a pipe, ``PATH.in`` and ``PATH.out``, made before QEMU starts.

    Implements harness.vm.guest.agent.Stream.
    """

    fd = None

    def __init__(self, path: Path) -> None:
        self.path = path
        self._files = (Path(f"{path}.in"), Path(f"{path}.out"))
        for file in self._files:
            os.mkfifo(file, 0o600)
        # Opened for both, which waits for nobody (fifo(7)).
        self._to_guest = os.open(self._files[0], os.O_RDWR | os.O_CLOEXEC)
        self._from_guest = os.open(self._files[1], os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        widen(self._from_guest)
        self._changed = threading.Condition()
        self._taken = 0
        self._sent = 0
        self._partial = b""
        self._closing = False

    def started(self) -> None:
        """Do nothing: QEMU opens the files itself."""

    def receive(self) -> bytes:
        """Return the next whole lines, b"" when QEMU has ended or this was closed; blocks."""
        while not self._closing:
            # poll(2): select(2) takes no descriptor above 1023.
            readable = select.poll()
            readable.register(self._from_guest, select.POLLIN)
            if not readable.poll(_LOOK_S * 1000):
                continue
            data = os.read(self._from_guest, _READ)
            if not data:
                self.close()
                break
            lines = self._whole_lines(data)
            if lines:
                return lines
        return b""

    def send(self, data: bytes, deadline: Deadline) -> None:
        """Send to the agent, as fast as it takes it; raises TimeoutError, LostConnection."""
        for start in range(0, len(data), PORT_BYTES):
            piece = data[start : start + PORT_BYTES]
            self._sent += len(piece)
            os.write(self._to_guest, piece)
            with self._changed:
                while self._taken < self._sent:
                    if self._closing:
                        raise LostConnection("the serial line to the guest has ended")
                    if deadline.expired:
                        raise TimeoutError("the guest does not take what it is sent")
                    self._changed.wait(min(_LOOK_S, max(deadline.remaining_s, 0.001)))

    def close(self) -> None:
        """End ``receive`` and ``send``; the descriptors go with ``remove``."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()

    def remove(self) -> None:
        """Close the pipe and remove its files, once nobody reads any more."""
        self.close()
        os.close(self._to_guest)
        os.close(self._from_guest)
        for file in self._files:
            file.unlink(missing_ok=True)

    def _whole_lines(self, data: bytes) -> bytes:
        *lines, self._partial = (self._partial + data).split(b"\n")
        kept = []
        for line in lines:
            if line.startswith(_TAKEN):
                with self._changed:
                    self._taken += int(json.loads(line)["bytes"])
                    self._changed.notify_all()
            else:
                kept.append(line + b"\n")
        return b"".join(kept)


def widen(pipe: int) -> None:
    """Make a pipe hold as much as any user may have it hold."""
    fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
