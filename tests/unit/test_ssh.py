# SPDX-License-Identifier: GPL-2.0-only
"""A channel to a guest, as the harness uses it, without a guest."""

from __future__ import annotations

import socket
import threading
from typing import TYPE_CHECKING, Any

import paramiko
import pytest

from harness.deadline import Deadline
from harness.vm.guest import events as guest_events
from harness.vm.guest.events import GuestEvents
from harness.vm.guest.keys import RunKeys
from harness.vm.guest.ssh import LOOPBACK, Stream, connect, reach
from tests.unit.ssh_server import EXIT_CODE, Server

if TYPE_CHECKING:
    from pathlib import Path

FOREVER_S = 3600.0


class Ending:
    """A channel whose connection has just gone from under it."""

    def __init__(self, error: Exception) -> None:
        self._error = error
        self.asked = 0

    def close(self) -> None:
        self.asked += 1
        raise self._error


@pytest.mark.parametrize("error", [EOFError(), OSError("gone"), paramiko.SSHException("gone")])
def test_closing_what_has_just_ended_is_no_failure(error: Exception) -> None:
    """paramiko says so when its thread has seen the end a moment before (Packetizer.write_all)."""
    channel: Any = Ending(error)
    Stream(channel).close()
    assert channel.asked == 1


def serve(listening: socket.socket, host_key: paramiko.PKey) -> None:
    connection, _ = listening.accept()
    transport = paramiko.Transport(connection)
    transport.add_server_key(host_key)
    transport.start_server(server=Server())


def test_no_wait_for_ssh_is_a_poll(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Greeting, authentication and the start of a command each wake who waits for them."""
    monkeypatch.setattr(guest_events, "_SLICE_S", FOREVER_S)
    host_key = paramiko.ECDSAKey.generate()
    host_public = f"{host_key.get_name()} {host_key.get_base64()}"
    keys = RunKeys(folder=tmp_path, host_public=host_public, client_public="")
    paramiko.RSAKey.generate(2048).write_private_key_file(str(keys.client_key))
    deadline = Deadline.after(30.0)
    with socket.create_server((LOOPBACK, 0)) as listening:
        threading.Thread(target=serve, args=(listening, host_key), daemon=True).start()
        port = listening.getsockname()[1]
        session = connect(reach(port, deadline), keys, events=GuestEvents(), deadline=deadline)
        channel = session.pipe(["a", "command"], deadline)
        channel.shutdown_write()
        said, code = channel.recv(1 << 10), channel.recv_exit_status()
        session.close()
    assert (code, said) == (EXIT_CODE, b"a command")
    assert not deadline.expired
