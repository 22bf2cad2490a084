# SPDX-License-Identifier: GPL-2.0-only
"""klp-standby: who serves a connection, and that what is said arrives. Its server is a shell."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import tty
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.deadline import wait_until
from harness.vm.host.process import run
from tests.unit.speaking_agent import build, soon

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

IDLE = "klp-standby: no connection to 127.0.0.1:{} is open\n"
# Says who it is as soon as it begins, and then gives back what it hears.
ECHO = ("sh", "-c", "echo $$; exec cat")


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.getbasetemp() / "guest-standby"
    build(folder, "klp-standby")
    return folder / "klp-standby"


@dataclass(frozen=True, kw_only=True)
class Server:
    """A running klp-standby."""

    pid: int
    port: int
    log: Path

    def idle_lines(self) -> int:
        return self.log.read_text().count(IDLE.format(self.port))

    def children(self) -> list[int]:
        text = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text()
        return [int(word) for word in text.split()]

    def client(self) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=10)
        connection.settimeout(10)
        return connection


@contextlib.contextmanager
def served(
    program: Path, folder: Path, command: Sequence[str], *options: str | Path
) -> Iterator[Server]:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    log = folder / "log"
    log.touch()
    started = run([program, *options, f"127.0.0.1:{port}", log, *command], deadline=soon())
    server = Server(pid=int(started.stdout), port=port, log=log)
    try:
        yield server
    finally:
        os.kill(server.pid, signal.SIGKILL)


@pytest.fixture
def server(program: Path, tmp_path: Path) -> Iterator[Server]:
    with served(program, tmp_path, ECHO) as running:
        assert wait_until(lambda: running.idle_lines() == 1, soon())
        yield running


def sleeps(pid: int) -> bool:
    """Return whether the process waits for something, and does not look for it all the time."""
    stat = Path(f"/proc/{pid}/stat")
    return wait_until(lambda: stat.read_text().rsplit(") ", 1)[1].startswith("S"), soon())


def greeting(client: socket.socket) -> int:
    with client.makefile("rb", buffering=0) as stream:
        return int(stream.readline())


def test_first_client_gets_the_server_that_waited(server: Server) -> None:
    """It is the one that had started before, and no other is started meanwhile."""
    waiting = server.children()
    assert len(waiting) == 1
    with server.client() as client:
        assert [greeting(client)] == waiting
        assert server.children() == waiting


def test_second_client_gets_a_server_of_its_own(server: Server) -> None:
    """Two connections at a time have nothing to do with each other."""
    with server.client() as one, server.client() as other:
        assert greeting(one) != greeting(other)
        one.sendall(b"one")
        other.sendall(b"other")
        assert other.recv(100) == b"other"
        assert one.recv(100) == b"one"


def test_next_server_waits_when_no_connection_is_open(server: Server) -> None:
    """The line in the log comes after the last connection, and then a server waits."""
    with server.client() as one:
        first = greeting(one)
        with server.client() as other:
            greeting(other)
        assert server.idle_lines() == 1
    assert wait_until(lambda: server.idle_lines() == 2, soon())
    # A server that ends closes its socket a moment before it is gone.
    assert wait_until(lambda: len(server.children()) == 1, soon())
    assert server.children() != [first]


def test_all_that_is_said_arrives_before_the_end(server: Server) -> None:
    """Much more than any buffer goes both ways; the end of the client's words is passed on."""
    said = os.urandom(4 << 20)
    heard = bytearray()
    with server.client() as client:
        greeting(client)
        sent = 0
        while sent < len(said):
            sent += client.send(said[sent : sent + 65536])
            client.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while data := client.recv(1 << 20):
                    heard += data
            client.settimeout(10)
        client.shutdown(socket.SHUT_WR)
        while data := client.recv(1 << 20):
            heard += data
    assert bytes(heard) == said


def test_a_server_that_cannot_start_ends_the_connection(program: Path, tmp_path: Path) -> None:
    """A client is not left hanging, nothing is said to be ready, and nothing spins."""
    with served(program, tmp_path, ("/nonexistent",)) as running:
        with running.client() as client:
            assert client.recv(100) == b""
        with running.client() as client:
            assert client.recv(100) == b""
        assert running.idle_lines() == 0
        assert sleeps(running.pid)


@dataclass(frozen=True, kw_only=True)
class Port:
    """A port of a running klp-standby: a terminal stands for the one that QEMU gives a guest."""

    server: Server
    ours: int
    theirs: int

    def says(self) -> bytes:
        assert select.select([self.ours], [], [], 10)[0]
        return os.read(self.ours, 100)


@pytest.fixture
def port(program: Path, tmp_path: Path) -> Iterator[Port]:
    ours, theirs = os.openpty()
    tty.setraw(theirs)
    try:
        with served(program, tmp_path, ECHO, "-p", os.ttyname(theirs)) as running:
            assert wait_until(lambda: running.idle_lines() == 1, soon())
            yield Port(server=running, ours=ours, theirs=theirs)
    finally:
        for end in (ours, theirs):
            with contextlib.suppress(OSError):
                os.close(end)


def test_the_port_gets_the_server_that_waited(port: Port) -> None:
    """Who writes there is a client; that it is there is not enough."""
    (waiting,) = port.server.children()
    assert not select.select([port.ours], [], [], 0.2)[0]
    os.write(port.ours, b"hello")
    said = port.says()
    while b"hello" not in said:
        said += port.says()
    assert said == b"%d\nhello" % waiting
    with port.server.client() as other:
        assert greeting(other) != waiting


def test_the_port_is_closed_with_its_server(port: Port) -> None:
    """All that the server has said arrives before that; the next server waits for others."""
    (first,) = port.server.children()
    os.write(port.ours, b"x")
    os.kill(first, signal.SIGKILL)
    os.close(port.theirs)
    said = bytearray()

    def hear() -> None:
        while True:
            said.extend(port.says())

    # That is how a terminal ends which nobody has open any more.
    with pytest.raises(OSError, match="Input/output error"):
        hear()
    assert said.startswith(b"%d\n" % first)
    assert wait_until(lambda: port.server.idle_lines() == 2, soon())
    with port.server.client() as client:
        assert greeting(client) != first


@pytest.mark.parametrize("is_used", [True, False])
def test_a_port_that_nobody_is_at_is_given_up(port: Port, is_used: bool) -> None:
    """Its server ends, others are served as before, and nothing spins."""
    (first,) = port.server.children()
    if is_used:
        os.write(port.ours, b"x")
        port.says()
    os.close(port.ours)
    if is_used:
        assert wait_until(lambda: port.server.idle_lines() == 2, soon())
        assert port.server.children() != [first]
    with port.server.client() as client:
        assert greeting(client) in port.server.children()
        assert sleeps(port.server.pid)


def test_a_port_that_is_not_there(program: Path, tmp_path: Path) -> None:
    """It is named, and nothing is served without it."""
    done = run(
        [program, "-p", tmp_path / "none", "127.0.0.1:0", tmp_path / "log", "true"],
        deadline=soon(),
        check=False,
    )
    assert done.returncode == 1
    assert "/none: No such file" in done.stderr
