# SPDX-License-Identifier: GPL-2.0-only
"""The way to the agent over a serial port, with the test in the place of QEMU and the guest."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.deadline import Deadline
from harness.errors import LostConnection
from harness.vm.guest.serial_line import PORT_BYTES, SerialLine

if TYPE_CHECKING:
    from collections.abc import Iterator

REQUEST = b"12 read /sys/kernel/livepatch/klp_test_gate/transition\n"


class Qemu:
    """Opens the pipe as QEMU does, and is the guest as well."""

    def __init__(self, path: Path) -> None:
        self.input = os.open(f"{path}.in", os.O_RDWR)
        self.output = os.open(f"{path}.out", os.O_RDWR)

    def say(self, data: bytes) -> None:
        os.write(self.output, data)

    def taken(self, count: int) -> None:
        self.say(b'{"event":"taken","bytes":%d}\n' % count)

    def end(self) -> None:
        os.close(self.input)
        os.close(self.output)


@pytest.fixture
def line(tmp_path: Path) -> Iterator[SerialLine]:
    made = SerialLine(tmp_path / "agent")
    yield made
    made.remove()


@pytest.fixture
def qemu(line: SerialLine) -> Qemu:
    return Qemu(line.path)


def received(line: SerialLine) -> tuple[threading.Thread, list[bytes]]:
    """Receive in a thread until the end."""
    got: list[bytes] = []

    def receive() -> None:
        while data := line.receive():
            got.append(data)

    thread = threading.Thread(target=receive)
    thread.start()
    return thread, got


def test_no_more_is_sent_than_the_port_holds_before_it_is_taken(
    line: SerialLine, qemu: Qemu
) -> None:
    """The whole request arrives, never more than one port of it at a time."""
    pieces: list[bytes] = []

    def guest() -> None:
        while sum(map(len, pieces)) < len(REQUEST):
            piece = os.read(qemu.input, 4096)
            pieces.append(piece)
            qemu.taken(len(piece))

    reader, got = received(line)
    taker = threading.Thread(target=guest)
    taker.start()
    line.send(REQUEST, Deadline.after(30))
    taker.join(30)
    qemu.end()
    reader.join(30)
    assert b"".join(pieces) == REQUEST
    assert max(map(len, pieces)) == PORT_BYTES
    assert got == []


def test_a_guest_that_takes_nothing_gets_no_second_piece(line: SerialLine, qemu: Qemu) -> None:
    """The port of 16 bytes is never overrun."""
    with pytest.raises(TimeoutError, match="does not take"):
        line.send(REQUEST, Deadline.after(0.1))
    assert os.read(qemu.input, 4096) == REQUEST[:PORT_BYTES]
    qemu.end()


def test_replies_come_as_whole_lines(line: SerialLine, qemu: Qemu) -> None:
    """A line comes when its end has come; what the agent tells of its input is left out."""
    reader, got = received(line)
    qemu.say(b'{"id":1,')
    qemu.taken(0)  # in the middle of a line, so it is a part of that
    qemu.taken(0)
    qemu.say(b'{"id":2}\n{"id"')
    qemu.end()
    reader.join(30)
    assert b"".join(got) == b'{"id":1,{"event":"taken","bytes":0}\n{"id":2}\n'


def test_the_end_of_qemu_ends_who_waits(line: SerialLine, qemu: Qemu) -> None:
    """Neither a reader nor a writer outlives QEMU."""
    reader, _ = received(line)
    threading.Timer(0.1, qemu.end).start()
    with pytest.raises(LostConnection, match="has ended"):
        line.send(REQUEST, Deadline.after(30))
    reader.join(30)
    assert not reader.is_alive()


def test_a_guest_may_write_a_mebibyte_that_nobody_reads(line: SerialLine, qemu: Qemu) -> None:
    """QEMU writes byte by byte and without waiting; a write that fails could not be replayed."""
    os.set_blocking(qemu.output, False)
    written = sum(os.write(qemu.output, b"x") for _ in range(100_000))
    assert written == 100_000
    qemu.end()


def test_nothing_is_left(tmp_path: Path) -> None:
    """No file and no descriptor remains."""
    fds = Path("/proc/self/fd")
    before = len(list(fds.iterdir()))
    SerialLine(tmp_path / "agent").remove()
    assert list(tmp_path.iterdir()) == []
    assert len(list(fds.iterdir())) == before
