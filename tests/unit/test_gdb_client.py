# SPDX-License-Identifier: GPL-2.0-only
"""The client of QEMU's gdb server, against a server of the test's own."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from typing import TYPE_CHECKING

import pytest

from harness.errors import QemuFailed, UsageError
from harness.vm.guest.gdb_client import GdbClient, Stop

if TYPE_CHECKING:
    from collections.abc import Iterator

HELLO = {
    "qSupported": "PacketSize=1000;qXfer:features:read+;vContSupported+",
    "qXfer": "l<target><architecture>i386:x86-64</architecture></target>",
    "?": "T05thread:p01.01;",
    "vCont?": "vCont;c;C;s;S",
    "Qqemu.PhyMemMode": "OK",
}


class Server:
    """Answers requests by what they begin with, and keeps them."""

    def __init__(self, sock: socket.socket, answers: dict[str, str]) -> None:
        self.requests: list[str] = []
        self.answers = answers
        self._sock = sock
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def send(self, text: str) -> None:
        self._sock.sendall(f"${text}#{sum(text.encode()) & 255:02x}".encode())

    def _serve(self) -> None:
        with contextlib.suppress(OSError):  # the test has ended
            self._answer_all()

    def _answer_all(self) -> None:
        data = b""
        while more := self._sock.recv(4096):
            data += more
            while True:
                if data[:1] in {b"+", b"\x03"}:
                    if data[:1] == b"\x03":
                        self.requests.append("halt")
                        self.send(self.answers["halt"])
                    data = data[1:]
                    continue
                end = data.find(b"#")
                if end < 0 or len(data) < end + 3:
                    break
                request, data = data[1:end].decode(), data[end + 3 :]
                self.requests.append(request)
                known = [key for key in self.answers if request.startswith(key)]
                if known:
                    self.send(self.answers[max(known, key=len)])


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def connected(ends: tuple[socket.socket, socket.socket], **more: str) -> tuple[GdbClient, Server]:
    server = Server(ends[1], HELLO | {"Hg": "OK", "Z0": "OK", "z0": "OK", "M": "OK"} | more)
    return GdbClient(ends[0]), server


@pytest.mark.parametrize(
    ("lacking", "what"),
    [
        ("qXfer", "does not describe its registers"),
        ("vCont?", "cannot continue one CPU alone"),
        ("Qqemu.PhyMemMode", "does not read memory by its physical address"),
    ],
)
def test_a_server_that_lacks_something_is_refused(
    ends: tuple[socket.socket, socket.socket], lacking: str, what: str
) -> None:
    """In one sentence that says what, and as wrong usage: another QEMU has it."""
    Server(ends[1], HELLO | {lacking: ""})
    with pytest.raises(UsageError, match=what):
        GdbClient(ends[0])


def test_a_stop_names_the_cpu(ends: tuple[socket.socket, socket.socket]) -> None:
    """QEMU numbers CPUs from 1, and says which one met a breakpoint."""
    gdb, server = connected(ends, p10="00" * 8, **{"vCont;c": "T05thread:p01.02;"})
    gdb.pc(0)
    gdb.go()
    assert gdb.wait(5) == Stop(1)
    assert server.requests[-1] == "vCont;c"
    # The server has chosen that CPU for what is asked next.
    gdb.pc(0)
    assert server.requests[-2:] == ["Hg1", "p10"]


def test_a_guest_that_runs_on_is_no_stop(ends: tuple[socket.socket, socket.socket]) -> None:
    """A wait in vain says so, and a request stops the guest where no breakpoint is."""
    gdb, _ = connected(ends, halt="T02thread:p01.01;")
    gdb.go()
    assert gdb.wait(0.01) is None
    assert gdb.halt() == Stop(None)


def test_a_breakpoint_met_while_it_is_asked_to_stop_is_not_lost(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    """The answer to the request is then the breakpoint."""
    gdb, _ = connected(ends, halt="T05thread:p01.01;")
    gdb.go()
    assert gdb.halt() == Stop(0)


def test_the_end_of_the_guest_is_no_stop(ends: tuple[socket.socket, socket.socket]) -> None:
    """A panic ends QEMU: every wait ends with it."""
    gdb, _ = connected(ends, **{"vCont;c": "W00"})
    gdb.go()
    with pytest.raises(EOFError):
        gdb.wait(5)


def test_registers_and_memory(ends: tuple[socket.socket, socket.socket]) -> None:
    """They are asked of the CPU that is meant, which is chosen once."""
    general = struct.pack("<17Q", *range(17)) + struct.pack("<7I", 0x246, *range(6))
    raw = general + struct.pack("<3Q", 100, 101, 102)
    gdb, server = connected(ends, g=raw.hex(), p10="1000000000000000", m="0102", P11="OK")
    registers = gdb.registers(1)
    assert (registers["rip"], registers["rsp"], registers["eflags"]) == (16, 7, 0x246)
    assert (registers["fs_base"], registers["gs_base"], registers["k_gs_base"]) == (100, 101, 102)
    assert gdb.pc(1) == 16
    assert gdb.read(0x1000, 2, 1) == b"\x01\x02"
    assert gdb.read_physical(0x1000, 2) == b"\x01\x02"
    assert [each for each in server.requests if each.startswith("Hg")] == ["Hg2"]
    assert server.requests[-2:] == ["Qqemu.PhyMemMode:1", "m1000,2"]
    gdb.set_flags(1, registers["eflags"] & ~0x200)
    assert server.requests[-1] == "P11=46000000"
    gdb.write(0x1000, b"\x90", 0)
    assert server.requests[-3:] == ["Hg1", "Qqemu.PhyMemMode:0", "M1000,1:90"]


def test_a_refusal_is_an_error(ends: tuple[socket.socket, socket.socket]) -> None:
    """A breakpoint that was not set would make every point one that is not reached."""
    gdb, _ = connected(ends, Z0="E22")
    with pytest.raises(QemuFailed, match="E22"):
        gdb.set_breakpoint(0x1000)
