# SPDX-License-Identifier: GPL-2.0-only
"""SSH of a template: connected once, and there in each of its clones.

Key exchange and authentication are all of the time until SSH is there. A clone has its template's
server, which has done both; all it lacks is the client's side. A new client gets that by doing
the same again: it receives what the template's client received, and what it says is not sent.

So all clones of a template have the same session keys, as they have the same host key. That is no
loss: who could read one of these connections is inside of this process or of QEMU.
"""

from __future__ import annotations

import json
import threading
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from harness.errors import LostConnection
from harness.vm.host.files import replace_text

if TYPE_CHECKING:
    import socket
    from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class SshExchange:
    """What a client received until it was authenticated, and what it chose at random, in hex.

    Each of ``received`` is how many bytes the client had sent until then, and what it received.
    ``sent`` is how many it sent in all, ``kex_init`` its SSH_MSG_KEXINIT (RFC 4253, 7.1) and
    ``private_key`` its half of the key exchange (RFC 8731).
    """

    received: tuple[tuple[int, str], ...]
    sent: int
    kex_init: str
    private_key: str

    def write(self, path: Path) -> None:
        """Write it to a file that the user alone can read; raises OSError."""
        replace_text(path, json.dumps(asdict(self)))

    @classmethod
    def read(cls, path: Path) -> SshExchange:
        """Return what was written there; raises OSError, and ValueError for another content."""
        fields = json.loads(path.read_text())
        received = tuple((after, data) for after, data in fields.pop("received"))
        return cls(received=received, **fields)


class ExchangeLine(ABC):
    """A line to an SSH server on which the exchange is kept, or done again. Used as a socket."""

    def __init__(self, line: socket.socket) -> None:
        self._line = line

    @abstractmethod
    def kex_init(self, made: bytes) -> bytes:
        """Return the client's SSH_MSG_KEXINIT, when it has made this one."""

    @abstractmethod
    def private_key(self, made: bytes) -> bytes:
        """Return the client's private key for the exchange, when it has made this one."""

    @abstractmethod
    def send(self, data: bytes) -> int:
        """Send some of it; returns how many bytes. Raises OSError."""

    @abstractmethod
    def recv(self, most: int) -> bytes:
        """Return the next bytes, b"" at the end; raises OSError, TimeoutError."""

    @property
    def _closed(self) -> bool:
        """Whether it is closed, which paramiko wants to know of a socket."""
        return self._line.fileno() < 0

    def settimeout(self, seconds: float | None) -> None:
        """Set how long the others wait."""
        self._line.settimeout(seconds)

    def close(self) -> None:
        """Close the line."""
        self._line.close()


class KeptExchange(ExchangeLine):
    """Keeps what passes, until the exchange is taken from here."""

    def __init__(self, line: socket.socket) -> None:
        super().__init__(line)
        self._received: list[tuple[int, str]] = []
        self._sent = 0
        self._kex_init = ""
        self._private_key = ""

    def taken(self) -> SshExchange:
        """Return all until now. Nothing may pass from here until the template is saved.

        Raises LostConnection when there was no exchange.
        """
        if not self._private_key:
            raise LostConnection("SSH was connected by another way than the line to its server")
        return SshExchange(
            received=tuple(self._received),
            sent=self._sent,
            kex_init=self._kex_init,
            private_key=self._private_key,
        )

    def kex_init(self, made: bytes) -> bytes:
        """Keep it."""
        self._kex_init = made.hex()
        return made

    def private_key(self, made: bytes) -> bytes:
        """Keep it."""
        self._private_key = made.hex()
        return made

    def send(self, data: bytes) -> int:
        """Send, and count."""
        sent = self._line.send(data)
        self._sent += sent
        return sent

    def recv(self, most: int) -> bytes:
        """Receive, and keep it."""
        data = self._line.recv(most)
        self._received.append((self._sent, data.hex()))
        return data


class RepeatedExchange(ExchangeLine):
    """Repeats an exchange, and is a plain line after that."""

    def __init__(self, line: socket.socket, exchange: SshExchange) -> None:
        super().__init__(line)
        self._exchange = exchange
        self._left = [(after, bytes.fromhex(data)) for after, data in exchange.received]
        self._unsent = exchange.sent
        self._said = threading.Condition()

    def kex_init(self, made: bytes) -> bytes:  # noqa: ARG002
        """Return that of the exchange."""
        return bytes.fromhex(self._exchange.kex_init)

    def private_key(self, made: bytes) -> bytes:  # noqa: ARG002
        """Return that of the exchange."""
        return bytes.fromhex(self._exchange.private_key)

    def send(self, data: bytes) -> int:
        """Drop what belongs to the exchange; send what comes after it."""
        with self._said:
            dropped = min(len(data), self._unsent)
            self._unsent -= dropped
            self._said.notify_all()
        return dropped or self._line.send(data)

    def recv(self, most: int) -> bytes:
        """Return what was received at this point of the exchange, or receive what comes after."""
        if not self._left:
            return self._line.recv(most)
        after, data = self._left[0]
        with self._said:
            if not self._said.wait_for(lambda: self._has_sent(after), self._line.gettimeout()):
                raise TimeoutError
        if len(data) > most:
            self._left[0] = after, data[most:]
        else:
            del self._left[0]
        return data[:most]

    def _has_sent(self, count: int) -> bool:
        return self._exchange.sent - self._unsent >= count
