# SPDX-License-Identifier: GPL-2.0-only
"""QEMU's gdb server behind a unix socket that this user alone can reach."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from harness.errors import HarnessError
from harness.vm.guest.control import listening, short_path

if TYPE_CHECKING:
    from pathlib import Path

    from harness.deadline import Deadline
    from harness.vm.guest.qmp import Monitor

GDB_SOCKET = "gdb"
_CHARDEV = "gdb0"


class GdbServer:
    """The gdb server of a guest, which can be closed while the guest stands still.

    At a breakpoint QEMU 7.2 forgets all code that it has translated, which is then translated
    anew, if its gdb server is open (gdb_vm_state_change() in gdbstub.c). Breakpoints stay when it
    is closed.
    """

    def __init__(self, monitor: Monitor, folder: Path) -> None:
        self._monitor, self._folder = monitor, folder
        self._socket: socket.socket | None = None

    def open(self, deadline: Deadline) -> socket.socket:
        """Open it, and return a connection; raises QemuFailed, HarnessError, OSError."""
        open_gdb_server(self._monitor, self._folder, deadline)
        self._socket = socket.socket(socket.AF_UNIX)
        with short_path(self._folder) as place:
            self._socket.connect(f"{place}/{GDB_SOCKET}")
        return self._socket

    def close(self, deadline: Deadline) -> None:
        """Close it; the guest still stands still."""
        self._monitor.human("gdbserver none", deadline=deadline)
        self.disconnect()
        (self._folder / GDB_SOCKET).unlink()

    def disconnect(self) -> None:
        """Close the connection, if there is one."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def open_gdb_server(monitor: Monitor, folder: Path, deadline: Deadline) -> None:
    """Have QEMU serve gdb at a socket in the folder; nothing happens where it does so already.

    A port on the loopback could be used by every user of the host. Raises QemuFailed, OSError.
    """
    if (folder / GDB_SOCKET).exists():
        return
    with listening(folder, GDB_SOCKET) as server:
        monitor.pass_fd(server.fileno(), GDB_SOCKET, deadline=deadline)
        address = {"type": "fd", "data": {"str": GDB_SOCKET}}
        backend = {"type": "socket", "data": {"addr": address, "server": True, "wait": False}}
        monitor.execute("chardev-add", {"id": _CHARDEV, "backend": backend}, deadline=deadline)
    said = monitor.human(f"gdbserver chardev:{_CHARDEV}", deadline=deadline)
    if "rror" in said or "ould not" in said:
        raise HarnessError(f"QEMU does not serve gdb: {said.strip()}")
