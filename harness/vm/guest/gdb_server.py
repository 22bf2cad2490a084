# SPDX-License-Identifier: GPL-2.0-only
"""QEMU's gdb server behind a unix socket that this user alone can reach."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.errors import HarnessError
from harness.vm.guest.control import listening

if TYPE_CHECKING:
    from pathlib import Path

    from harness.deadline import Deadline
    from harness.vm.guest.qmp import Monitor

GDB_SOCKET = "gdb"
_CHARDEV = "gdb0"


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
