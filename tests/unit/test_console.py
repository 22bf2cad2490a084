# SPDX-License-Identifier: GPL-2.0-only
"""The serial console's one reader, and the waits that it wakes."""

from __future__ import annotations

import fcntl
import resource
import socket
import threading
from typing import TYPE_CHECKING

import pytest

from harness.deadline import Deadline
from harness.klog.splats import Category
from harness.vm.guest.console import Console
from harness.vm.guest.events import GuestEvents

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


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
