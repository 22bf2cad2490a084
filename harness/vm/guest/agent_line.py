# SPDX-License-Identifier: GPL-2.0-only
"""The line to the agent of a guest.

In the guest the agent has a virtio port open. QEMU saves that with the guest, as it does no
forwarded connection: a restored guest has its agent connected, and neither a handshake nor a cipher
is run before its first answer, nor the code of TCP.
"""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING

from harness.errors import LostConnection
from harness.vm.guest.port_line import PortLine
from harness.vm.guest.receiving import receive

if TYPE_CHECKING:
    from harness.deadline import Deadline

_LEAST_S = 0.001


class AgentLine(PortLine):
    """Implements harness.vm.guest.agent.Stream."""

    def receive(self) -> bytes:
        """Return the next bytes, b"" when QEMU has ended or this was closed; blocks."""
        try:
            return receive(self.ours.recv)
        except OSError:
            return b""

    def send(self, data: bytes, deadline: Deadline) -> None:
        """Send to the agent; raises LostConnection, or TimeoutError while it takes nothing."""
        left = memoryview(data)
        while left:
            self.ours.settimeout(max(deadline.remaining_s, _LEAST_S))
            try:
                left = left[self.ours.send(left) :]
            except TimeoutError:
                raise TimeoutError("the guest does not take what it is sent") from None
            except OSError as error:
                raise LostConnection(f"the line to the guest has ended: {error}") from error

    def close(self) -> None:
        """End ``receive`` and ``send``. The agent in the guest notices nothing of it."""
        with contextlib.suppress(OSError):
            self.ours.shutdown(socket.SHUT_RDWR)
