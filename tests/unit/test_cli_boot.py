# SPDX-License-Identifier: GPL-2.0-only
"""The pump between a person's streams and a shell in a guest."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Any

import pytest

from harness.errors import GuestPanic
from harness.tools.boot.command import _ESCAPE, _Pump

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Channel:
    """An SSH channel whose far end runs ``answer`` on what it is sent."""

    def __init__(self, answer: Callable[[bytes], bytes | None]) -> None:
        self._answer = answer
        self._news, self._beat = socket.socketpair()
        self._out = b""
        self.sent = b""
        self.closed = False
        self.eof_received = False
        self.status = False

    def close(self) -> None:
        self._news.close()
        self._beat.close()

    def fileno(self) -> int:
        return self._news.fileno()

    def settimeout(self, _: float | None) -> None:
        pass

    def get_transport(self) -> Channel:
        return self

    def is_active(self) -> bool:
        return True

    def send_ready(self) -> bool:
        return True

    def send(self, data: bytes) -> int:
        part = data[:3]
        self.sent += part
        self._reply(part)
        return len(part)

    def shutdown_write(self) -> None:
        self._reply(b"")

    def _reply(self, data: bytes) -> None:
        answer = self._answer(data)
        if answer is None:
            self.eof_received = self.status = True
        else:
            self._out += answer
        self._beat.send(b"x")

    def recv_ready(self) -> bool:
        return bool(self._out)

    def recv(self, size: int) -> bytes:
        data, self._out = self._out[:size], self._out[size:]
        return data

    def recv_stderr_ready(self) -> bool:
        return False

    def recv_stderr(self, size: int) -> bytes:
        return b""

    def exit_status_ready(self) -> bool:
        return self.status


class Stdin:
    """Standard input as a pipe."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def fileno(self) -> int:
        return self._fd


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[bytes, bool], None]]:
    """A function that types on our standard input, and may end it."""
    reading, writing = os.pipe()
    monkeypatch.setattr("sys.stdin", Stdin(reading))
    open_fds = {reading, writing}

    def type_(data: bytes, end: bool) -> None:
        os.write(writing, data)
        if end:
            os.close(writing)
            open_fds.discard(writing)

    yield type_
    for fd in open_fds:
        os.close(fd)


def nothing() -> None:
    pass


def test_script_goes_in_whole_and_its_output_comes_out(
    typed: Any, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    """Every byte of the script arrives, in pieces as the channel takes them, then its end."""
    channel = Channel(lambda data: data.upper() if data else None)
    typed(b"uname -r; exit\n", True)
    _Pump(channel, nothing).run()
    channel.close()
    assert channel.sent == b"uname -r; exit\n"
    assert capsysbinary.readouterr().out == b"UNAME -R; EXIT\n"


def test_escape_key_leaves(typed: Any) -> None:
    """Ctrl-] ends the session although the shell goes on."""
    channel = Channel(lambda data: data)
    typed(b"ls" + _ESCAPE, False)
    _Pump(channel, nothing, escape=_ESCAPE).run()
    channel.close()
    assert channel.sent == b""


def test_escape_byte_of_a_script_is_data(typed: Any) -> None:
    """Only a person at a terminal can leave; a script may contain any byte."""
    channel = Channel(lambda data: b"" if data else None)
    typed(b"a" + _ESCAPE + b"b", True)
    _Pump(channel, nothing).run()
    channel.close()
    assert channel.sent == b"a" + _ESCAPE + b"b"


def test_death_of_the_guest_ends_the_pump(typed: Any) -> None:
    """A panic is raised while nobody types."""

    def look() -> None:
        raise GuestPanic("the guest panicked")

    channel = Channel(lambda data: data)
    with pytest.raises(GuestPanic):
        _Pump(channel, look).run()
    channel.close()
