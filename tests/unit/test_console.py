# SPDX-License-Identifier: GPL-2.0-only
"""The serial console's one reader, and the waits that it wakes."""

from __future__ import annotations

import fcntl
import os
import resource
import socket
import threading
from typing import TYPE_CHECKING

import pytest

from harness.deadline import Deadline
from harness.errors import NoSpace
from harness.klog.splats import Category
from harness.vm.guest.console import KEPT, Console
from harness.vm.guest.events import GuestEvents

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from harness.klog.splats import Splat


@pytest.fixture
def events() -> GuestEvents:
    return GuestEvents()


@pytest.fixture
def wire(tmp_path: Path, events: GuestEvents) -> Iterator[tuple[Console, socket.socket]]:
    ours, theirs = socket.socketpair()
    console = Console(ours, tmp_path / "console.log", events)
    yield console, theirs
    theirs.close()
    console.close()


def test_text_is_logged_and_seen(wire: tuple[Console, socket.socket], events: GuestEvents) -> None:
    """Every byte reaches the log; text() has plain line ends, also for a character cut in two."""
    console, qemu = wire
    data = "[    1.000000] grüße\r\n".encode()
    qemu.sendall(data[:18])
    qemu.sendall(data[18:])
    assert events.wait(lambda: console.contains("grüße\n"), Deadline.after(5))
    assert console.tail() == ("[    1.000000] grüße",)
    assert console.log_path.read_bytes() == data


def test_a_process_with_many_files_hears_it(tmp_path: Path, events: GuestEvents) -> None:
    """Descriptors above 1023 are as good as others; select(2) would not take them."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4096)), hard))
    ours, theirs = socket.socketpair()
    high = socket.socket(fileno=fcntl.fcntl(ours, fcntl.F_DUPFD_CLOEXEC, 1100))
    ours.close()
    console = Console(high, tmp_path / "console.log", events)
    try:
        theirs.sendall(b"here\n")
        assert events.wait(lambda: console.contains("here\n"), Deadline.after(5))
    finally:
        theirs.close()
        console.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_empty_console_says_so(wire: tuple[Console, socket.socket]) -> None:
    """A console without a line has one to show for it: an error's details are never empty."""
    (line,) = wire[0].tail()
    assert "nothing was printed" in line


def test_end_of_qemu_ends_the_reader(
    wire: tuple[Console, socket.socket], events: GuestEvents
) -> None:
    """When QEMU closes its end, the console has ended and a splat cut short is still reported."""
    console, qemu = wire
    qemu.sendall(b"[    2.000000] Kernel panic - not syncing: for the test\r\n")
    qemu.close()
    assert events.wait(lambda: console.ended, Deadline.after(5))
    (splat,) = console.splats()
    assert splat.category is Category.PANIC
    assert "for the test" in splat.title


def test_typing_reaches_the_guest(wire: tuple[Console, socket.socket]) -> None:
    """What is written goes to the guest's serial line as it is."""
    console, qemu = wire
    qemu.settimeout(5)
    console.write("t")
    assert qemu.recv(10) == b"t"


def test_wait_may_be_answered_by_a_reader(events: GuestEvents) -> None:
    """A condition may itself wait for a thread that beats: the events holds no lock then."""
    answered = threading.Event()

    def notify() -> None:
        events.notify()
        answered.set()

    def condition() -> bool:
        reader = threading.Thread(target=notify)
        reader.start()
        reader.join(5)
        return answered.is_set()

    assert events.wait(condition, Deadline.after(5))


def test_success_at_the_deadline_is_success(events: GuestEvents) -> None:
    """The condition is looked at once more after the deadline."""
    looks = iter([False, True])
    assert events.wait(lambda: next(looks), Deadline.after(0))
    assert not events.wait(lambda: False, Deadline.after(0))


def _fill_disk(console: Console) -> int:
    """Have every write of the console's log fail as on a full disk; return its own descriptor."""
    own = os.dup(console._log._file)
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, console._log._file)
    os.close(full)
    return own


def test_a_full_disk_does_not_end_the_reader(
    wire: tuple[Console, socket.socket], events: GuestEvents
) -> None:
    """It reads on, so that QEMU's line does not block, finds splats, and says what is missing."""
    console, qemu = wire
    own = _fill_disk(console)
    qemu.sendall(b"[    1.000000] lost\r\n")
    assert events.wait(lambda: console.contains("lost"), Deadline.after(5))
    assert isinstance(console.problem(), NoSpace)
    qemu.sendall(b"x" * (4 << 20))
    os.dup2(own, console._log._file)
    os.close(own)
    qemu.sendall(b"\r\n[    2.000000] Kernel panic - not syncing: seen\r\n")
    assert events.wait(lambda: bool(console.splats()), Deadline.after(20))
    assert isinstance(console.problem(), NoSpace), "a log with a hole is never whole again"
    assert b"bytes could not be written here" in console.log_path.read_bytes()


def test_a_reader_that_fails_is_told(
    wire: tuple[Console, socket.socket], events: GuestEvents, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault of our own in the reader is no clean log; the bytes are logged all the same."""
    console, qemu = wire

    def broken(_text: str) -> list[Splat]:
        raise RuntimeError("for the test")

    monkeypatch.setattr(console._detector, "feed", broken)
    qemu.sendall(b"[    1.000000] one\r\n")
    assert events.wait(lambda: console.problem() is not None, Deadline.after(5))
    assert "RuntimeError" in str(console.problem())
    qemu.sendall(b"[    2.000000] two\r\n")
    assert events.wait(lambda: b"two" in console.log_path.read_bytes(), Deadline.after(5))


def test_dropped_messages_make_it_incomplete(
    wire: tuple[Console, socket.socket], events: GuestEvents
) -> None:
    """What the kernel could not print may have been a splat."""
    console, qemu = wire
    qemu.sendall(
        b"[    1.000000] one\r\n** 4711 printk messages dropped **\r\n[    2.000000] two\r\n"
    )
    assert events.wait(lambda: console.contains("two"), Deadline.after(5))
    assert console.problem() is None
    assert "lost 4711 messages" in str(console.incomplete())


def test_a_flood_costs_no_memory(wire: tuple[Console, socket.socket], events: GuestEvents) -> None:
    """Forty megabytes are in the log; the last of them, and what was sought, in memory."""
    console, qemu = wire
    line = b"[    1.000000] " + b"x" * 90 + b"\r\n"
    piece = line * 1000
    count = 40_000_000 // len(piece)
    assert not console.contains("the end")
    assert not console.contains("the beginning")
    qemu.sendall(b"[    1.000000] the beginning\r\n")
    for _ in range(count):
        qemu.sendall(piece)
    qemu.sendall(b"[    1.000000] the end\r\n")
    assert events.wait(lambda: console.contains("the end"), Deadline.after(120))
    assert console.contains("the beginning")
    assert len(console.text()) < 3 * KEPT
    assert console.log_path.stat().st_size > count * len(piece)
    assert console.size > count * 1000 * 100


def test_sought_text_may_be_cut(wire: tuple[Console, socket.socket], events: GuestEvents) -> None:
    """A text that comes in pieces is found, whether it is sought before, between or after."""
    console, qemu = wire
    assert not console.contains("needle")
    for part in (b"nee", b"d", b"le"):
        size = console.size
        qemu.sendall(part)
        assert events.wait(lambda size=size: console.size > size, Deadline.after(5))  # type: ignore[misc]
        console.contains("needle!")
    assert console.contains("needle")
    assert console.contains("eed")
    assert not console.contains("needle!")
    qemu.sendall(b"!")
    assert events.wait(lambda: console.contains("needle!"), Deadline.after(5))


def test_long_lines_do_not_fill_an_error(
    wire: tuple[Console, socket.socket], events: GuestEvents
) -> None:
    """An error shows the beginning of each of the last lines."""
    console, qemu = wire
    qemu.sendall(b"x" * 50_000 + b"\r\nend\r\n")
    assert events.wait(lambda: console.contains("end\n"), Deadline.after(5))
    first, last = console.tail()
    assert len(first) == 1000
    assert last == "end"
