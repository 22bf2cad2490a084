# SPDX-License-Identifier: GPL-2.0-only
"""The line to a virtio port of a guest: a socket of which QEMU has the other end."""

from __future__ import annotations

import contextlib
import socket


class PortLine:
    """Both ends of it, made before QEMU starts."""

    path = None

    def __init__(self) -> None:
        self.ours, self._theirs = socket.socketpair()

    @property
    def fd(self) -> int:
        """The descriptor of QEMU's end, until QEMU has started."""
        return self._theirs.fileno()

    def started(self) -> None:
        """Close QEMU's end here, since QEMU has it: so what is received ends when QEMU does."""
        self._theirs.close()

    def end(self) -> None:
        """End what is received once all has been: in the guest the port has been closed."""
        with contextlib.suppress(OSError):
            self.ours.shutdown(socket.SHUT_RD)

    def remove(self) -> None:
        """Close both ends, once nobody reads any more."""
        self.ours.close()
        self._theirs.close()
