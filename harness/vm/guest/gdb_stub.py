# SPDX-License-Identifier: GPL-2.0-only
"""QEMU's gdb server, as a program uses it: stop a guest at functions, and read its memory there.

In a replay a guest that is stopped and read goes on as it was recorded.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from typing import TYPE_CHECKING, NamedTuple, Self

from harness.deadline import wait_until
from harness.errors import HarnessError
from harness.vm.guest.gdb_packets import GdbPackets

if TYPE_CHECKING:
    from pathlib import Path

    from harness.deadline import Deadline

# QEMU takes packets of 4096 bytes, and a byte of memory is two letters.
_MOST_BYTES = 1024
_REGISTERS = struct.Struct("<17Q")
_RSI, _RDI, _RIP = 4, 5, 16
_ENDED = ("W", "X")


class Stop(NamedTuple):
    """Where a guest has stopped, and the first two arguments of the function that begins there."""

    address: int
    first: int
    second: int


class GdbStub:
    """A connection to the gdb server of a QEMU that waits for it. Raises HarnessError."""

    def __init__(self, path: Path, deadline: Deadline) -> None:
        self._deadline = deadline
        self._stopped = False
        self._socket = socket.socket(socket.AF_UNIX)

        def connected() -> bool:
            with contextlib.suppress(OSError):
                self._socket.connect(str(path))
                return True
            return False

        if not wait_until(connected, deadline):
            self._socket.close()
            raise HarnessError("QEMU's gdb server does not answer")
        self._packets = GdbPackets(self._socket)
        # Asked for once, it lets later requests name registers by their numbers.
        self._ask("qSupported")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._socket.close()

    def break_at(self, address: int) -> None:
        """Stop the guest whenever it comes by that address."""
        if self._ask(f"Z1,{address:x},1") != "OK":
            raise HarnessError(f"QEMU's gdb server sets no breakpoint at {address:#x}")

    def go_on(self) -> Stop | None:
        """Let the guest run until it stops; None when QEMU has ended."""
        try:
            if self._stopped:
                # From the breakpoint itself, where it would stop at once.
                self._ask("s")
            answer = self._ask("c")
            if answer.startswith(_ENDED):
                return None
            self._stopped = True
            text = self._ask("g")
        except ConnectionError:
            return None
        try:
            values = _REGISTERS.unpack(bytes.fromhex(text[: 2 * _REGISTERS.size]))
        except (ValueError, struct.error) as error:
            raise HarnessError("QEMU's gdb server gives no registers") from error
        return Stop(values[_RIP], values[_RDI], values[_RSI])

    def memory(self, address: int, size: int) -> bytes:
        """Return memory at a kernel address; raises HarnessError where there is none."""
        found = b""
        while len(found) < size:
            part = min(size - len(found), _MOST_BYTES)
            answer = self._ask(f"m{address + len(found):x},{part:x}")
            try:
                data = bytes.fromhex(answer)
            except ValueError:
                data = b""
            if len(data) != part:
                raise HarnessError(f"the guest has no memory at {address:#x}")
            found += data
        return found

    def pointer(self, address: int) -> int:
        """Return a pointer, or a number of eight bytes."""
        return int.from_bytes(self.memory(address, 8), "little")

    def text(self, address: int, most: int = 128) -> str:
        """Return a string that ends with a zero byte, or after so many bytes."""
        found = b""
        while b"\0" not in found and len(found) < most:
            found += self.memory(address + len(found), 16)
        return found.partition(b"\0")[0].decode(errors="replace")

    def _ask(self, request: str) -> str:
        """Return the answer to a request; raises ConnectionError when QEMU has ended."""
        try:
            self._packets.send(request)
            answer = self._packets.receive(max(0.01, self._deadline.remaining_s))
        except EOFError as error:
            raise ConnectionError from error
        if answer is None:
            raise HarnessError("the guest neither stops nor ends in time")
        return answer
