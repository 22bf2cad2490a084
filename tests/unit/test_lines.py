# SPDX-License-Identifier: GPL-2.0-only
"""The lines that QEMU has from its start on: whose end is where, and who may use them."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import pytest

from harness.errors import LostConnection
from harness.vm.guest.lines import Lines
from harness.vm.guest.ssh_exchange import RepeatedExchange, SshExchange

if TYPE_CHECKING:
    from pathlib import Path


def test_ssh_is_there_once(tmp_path: Path) -> None:
    """What is written there arrives at QEMU's end; who comes next has to go by the loopback."""
    lines = Lines(tmp_path, recorded=False)
    assert lines.ssh_fd is not None
    with socket.socket(fileno=os.dup(lines.ssh_fd)) as qemu:
        lines.started()
        ours = lines.take_ssh()
        assert isinstance(ours, socket.socket)
        ours.sendall(b"SSH-2.0-x")
        assert qemu.recv(100) == b"SSH-2.0-x"
        assert lines.take_ssh() is None
        lines.remove()
        assert qemu.recv(100) == b""


@pytest.mark.parametrize(("port", "ends"), [("ssh", True), ("agent", False)])
def test_a_port_that_is_closed_ends_its_own_line(tmp_path: Path, port: str, ends: bool) -> None:
    """And no other one."""
    lines = Lines(tmp_path, recorded=False)
    ours = lines.take_ssh()
    assert isinstance(ours, socket.socket)
    ours.setblocking(False)
    lines.end(port)
    if ends:
        assert ours.recv(100) == b""
    else:
        with pytest.raises(BlockingIOError):
            ours.recv(100)
    lines.remove()


def test_a_port_that_was_closed_is_not_taken(tmp_path: Path) -> None:
    """SSH then goes by the loopback, and not into a line at which nobody is."""
    lines = Lines(tmp_path, recorded=False)
    lines.end("agent")
    assert lines._ssh is not None
    lines.end("ssh")
    assert lines.take_ssh() is None
    with pytest.raises(LostConnection, match="closed the line"):
        lines.keep_exchange()
    lines.remove()


def test_an_exchange_is_on_the_line_of_ssh(tmp_path: Path) -> None:
    """Whoever takes the line has it: to be kept, or to be repeated."""
    lines = Lines(tmp_path, recorded=False)
    kept = lines.keep_exchange()
    assert lines.take_ssh() is kept
    assert lines.take_ssh() is None
    lines.remove()
    lines = Lines(tmp_path, recorded=False)
    lines.repeat_exchange(SshExchange(received=(), sent=0, kex_init="", private_key=""))
    assert isinstance(lines.take_ssh(), RepeatedExchange)
    lines.remove()


def test_a_recorded_guest_has_no_ssh(tmp_path: Path) -> None:
    """It has no network either."""
    lines = Lines(tmp_path, recorded=True)
    assert (lines.ssh_fd, lines.take_ssh()) == (None, None)
    lines.started()
    lines.remove()
