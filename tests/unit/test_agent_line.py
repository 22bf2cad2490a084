# SPDX-License-Identifier: GPL-2.0-only
"""The line to the agent, with the test as QEMU and the guest."""

from __future__ import annotations

import os
import socket
import threading
from typing import TYPE_CHECKING

import pytest

from harness.deadline import Deadline
from harness.errors import LostConnection
from harness.vm.guest.agent_line import AgentLine

if TYPE_CHECKING:
    from collections.abc import Iterator

REQUEST = b"12 read /sys/kernel/livepatch/klp_test_gate/transition\n"
MUCH = 8 << 20
SHORTLY_S = 0.05
LATER_S = 20.0


@pytest.fixture
def line() -> Iterator[AgentLine]:
    made = AgentLine()
    yield made
    made.remove()


@pytest.fixture
def qemu(line: AgentLine) -> Iterator[socket.socket]:
    """QEMU's end, as a QEMU that has started has it."""
    with socket.socket(fileno=os.dup(line.fd)) as theirs:
        line.started()
        yield theirs


def test_both_directions(line: AgentLine, qemu: socket.socket) -> None:
    """What one end sends, the other receives."""
    line.send(REQUEST, Deadline.after(LATER_S))
    assert qemu.recv(len(REQUEST)) == REQUEST
    qemu.sendall(REQUEST)
    assert line.receive() == REQUEST


def test_more_than_the_socket_holds(line: AgentLine, qemu: socket.socket) -> None:
    """A request of several mebibytes arrives whole, as fast as it is taken."""
    taken = bytearray()

    def take() -> None:
        while len(taken) < MUCH:
            taken.extend(qemu.recv(1 << 16))

    reader = threading.Thread(target=take)
    reader.start()
    line.send(b"x" * MUCH, Deadline.after(LATER_S))
    reader.join()
    assert taken == b"x" * MUCH


@pytest.mark.usefixtures("qemu")
def test_guest_that_takes_nothing(line: AgentLine) -> None:
    """A guest that does not read is noticed at the deadline."""
    with pytest.raises(TimeoutError, match="does not take"):
        line.send(b"x" * MUCH, Deadline.after(SHORTLY_S))


def test_end_of_qemu(line: AgentLine, qemu: socket.socket) -> None:
    """When QEMU ends, what waits for the agent ends, and nothing more can be sent."""
    qemu.close()
    assert line.receive() == b""
    with pytest.raises(LostConnection, match="has ended"):
        line.send(REQUEST, Deadline.after(LATER_S))


def test_reader_outlives_the_deadline_of_a_sender(line: AgentLine, qemu: socket.socket) -> None:
    """A guest that is silent for long after a request is still connected."""
    deadline = Deadline.after(SHORTLY_S)
    line.send(REQUEST, deadline)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(line.receive()))
    reader.start()
    # A reader that ends at the deadline of the sender ends no later than this.
    reader.join(4 * SHORTLY_S)
    assert deadline.expired
    qemu.sendall(REQUEST)
    reader.join(LATER_S)
    assert read == [REQUEST]


def test_end_of_the_agent(line: AgentLine, qemu: socket.socket) -> None:
    """What it said before is received, and then the end, though QEMU has its socket open."""
    qemu.sendall(REQUEST)
    line.end()
    assert line.receive() == REQUEST
    assert line.receive() == b""


@pytest.mark.usefixtures("qemu")
def test_closing_ends_the_reader(line: AgentLine) -> None:
    """A reader that waits for the agent ends when the line is closed."""
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(line.receive()))
    reader.start()
    line.close()
    reader.join(LATER_S)
    assert read == [b""]
