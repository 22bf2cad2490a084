# SPDX-License-Identifier: GPL-2.0-only
"""A key exchange that a second client repeats: the server of the first one cannot tell them apart.

The server here is paramiko's own, which is not saved and restored but simply goes on.
"""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import paramiko
import pytest

from harness.deadline import Deadline
from harness.errors import HarnessError, LostConnection
from harness.vm.guest.events import GuestEvents
from harness.vm.guest.keys import RunKeys
from harness.vm.guest.ssh import SshSession, connect
from harness.vm.guest.ssh_exchange import KeptExchange, RepeatedExchange, SshExchange
from tests.unit.ssh_server import Server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LIMIT_S = 60.0
SHORT_S = 0.3


class Place:
    """A server that has had an exchange with a client that is gone, and the line to it."""

    def __init__(self, folder: Path) -> None:
        self.line, theirs = socket.socketpair()
        host_key = paramiko.ECDSAKey.generate()
        self.keys = RunKeys(
            folder=folder,
            host_public=f"{host_key.get_name()} {host_key.get_base64()}",
            client_public="",
        )
        paramiko.RSAKey.generate(2048).write_private_key_file(str(self.keys.client_key))
        self.server = paramiko.Transport(theirs)
        self.server.add_server_key(host_key)
        threading.Thread(
            target=lambda: self.server.start_server(server=Server()), daemon=True
        ).start()
        kept = KeptExchange(self.another_end())
        self.first = self.connected(kept)
        self.exchange = kept.taken()
        self.first.close()

    def another_end(self) -> socket.socket:
        """Return the line as a client may close it, without closing it for the next one."""
        return socket.socket(fileno=os.dup(self.line.fileno()))

    def connected(
        self,
        line: KeptExchange | RepeatedExchange,
        *,
        keys: RunKeys | None = None,
        limit_s: float = LIMIT_S,
    ) -> SshSession:
        deadline = Deadline.after(limit_s)
        return connect(line, keys or self.keys, events=GuestEvents(), deadline=deadline)

    def repeated(self, exchange: SshExchange | None = None) -> RepeatedExchange:
        return RepeatedExchange(self.another_end(), exchange or self.exchange)

    def close(self) -> None:
        self.server.close()
        self.line.close()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with contextlib.closing(Place(tmp_path)) as one:
        yield one


def said(session: SshSession, command: str) -> bytes:
    channel = session.pipe([command], Deadline.after(LIMIT_S))
    channel.shutdown_write()
    return b"".join(iter(lambda: channel.recv(1 << 10), b""))


def test_the_next_client_goes_on(place: Place) -> None:
    """It has a session with the server that the first client has authenticated to."""
    session = place.connected(place.repeated())
    assert said(session, "hello") == b"hello"
    session.close()


def test_a_later_exchange_is_a_new_one(place: Place) -> None:
    """SSH changes its keys after an hour or a gigabyte, and nothing of that is repeated."""
    line = place.repeated()
    session = place.connected(line)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("private_key", "kex_init"):
            patch.delattr(RepeatedExchange, name)
        session._transport.renegotiate_keys()
    assert said(session, "hello") == b"hello"
    session.close()


def test_the_pinned_host_key_is_compared_again(place: Place) -> None:
    """Who repeats an exchange trusts no more than who had it."""
    keys = replace(place.keys, host_public="ssh-ed25519 AAAA")
    with pytest.raises(HarnessError, match="host key"):
        place.connected(place.repeated(), keys=keys)


def test_it_is_the_server_who_answers(place: Place) -> None:
    """A server that has ended, or says nothing, is not connected, whatever was received before."""
    ours, theirs = socket.socketpair()
    with theirs, pytest.raises(LostConnection, match="in time"):
        place.connected(RepeatedExchange(ours, place.exchange), limit_s=SHORT_S)
    place.server.close()
    with pytest.raises(LostConnection):
        place.connected(place.repeated())


def test_another_servers_exchange_is_noticed(place: Place) -> None:
    """Its keys are not those of this one."""
    other = replace(place.exchange, private_key="11" * 32)
    with pytest.raises(LostConnection):
        place.connected(place.repeated(other))


def test_an_exchange_is_kept_in_a_private_file(place: Place, tmp_path: Path) -> None:
    """It has the keys of a session in it."""
    path = tmp_path / "exchange"
    place.exchange.write(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert SshExchange.read(path) == place.exchange
    session = place.connected(place.repeated(SshExchange.read(path)))
    assert said(session, "hello") == b"hello"
    session.close()
    path.write_text("[")
    with pytest.raises(ValueError, match="Expecting"):
        SshExchange.read(path)


def test_a_line_that_nobody_has_used_kept_nothing() -> None:
    """SSH went by the loopback, for example, since the guest had closed its port."""
    ours, theirs = socket.socketpair()
    with ours, theirs, pytest.raises(LostConnection, match="another way"):
        KeptExchange(ours).taken()


def test_what_is_received_waits_for_what_is_said() -> None:
    """A client would not expect an answer before its question, nor all of a part at once."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(0.01)
        received = ((0, b"greeting".hex()), (4, b"answer".hex()))
        line = RepeatedExchange(
            ours, SshExchange(received=received, sent=6, kex_init="", private_key="")
        )
        assert (line.recv(5), line.recv(5)) == (b"greet", b"ing")
        with pytest.raises(TimeoutError):
            line.recv(5)
        assert line.send(b"said") == 4
        assert line.recv(100) == b"answer"
        assert line.send(b"?!more") == 2
        assert line.send(b"more") == 4
        theirs.sendall(b"new")
        assert (theirs.recv(100), line.recv(100)) == (b"more", b"new")
