# SPDX-License-Identifier: GPL-2.0-only
"""What a guest loads from its initrd, and what it says when its kernel cannot serve."""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING

import pytest

from harness.deadline import Deadline
from harness.errors import BootFailed
from harness.vm.guest.console import Console
from harness.vm.guest.hypervisor import Hypervisor
from harness.vm.guest.initramfs import LACKS_LINE, READY_LINE, extend_initrd
from harness.vm.guest.qemu import GuestShape
from harness.vm.host.accel import Accel
from harness.vm.host.process import run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


class Printed(Hypervisor):
    """A hypervisor whose guest has printed all that it will print."""

    def __init__(self, text: str, folder: Path, stack: contextlib.ExitStack) -> None:
        shape = GuestShape(image=folder / "bzImage", initrd=folder / "initrd", accel=Accel.TCG)
        super().__init__(shape, folder, stack)
        self.killed = False
        ours, theirs = socket.socketpair()
        with theirs:
            theirs.sendall(text.encode())
        self.console = Console(ours, folder / "console.log", self.events)
        stack.callback(self.console.close)

    def kill(self) -> None:
        self.killed = True


@pytest.fixture
def printed(tmp_path: Path) -> Iterator[Callable[[str], Printed]]:
    """Make a hypervisor whose guest has printed a text."""
    with contextlib.ExitStack() as stack:
        yield lambda text: Printed(text, tmp_path, stack)


def test_a_guest_that_is_ready(printed: Callable[[str], Printed]) -> None:
    """A guest that prints the line of its init script has booted, and lives on."""
    hypervisor = printed(f"[ 1.0] x\n{READY_LINE}\n")
    hypervisor.wait_for_boot(Deadline.after(30))
    assert not hypervisor.killed


def test_a_guest_that_says_what_it_lacks(printed: Callable[[str], Printed]) -> None:
    """The first of what it lacks is the sentence, at once and not after a deadline."""
    hypervisor = printed(
        f"{LACKS_LINE}it found no network card (CONFIG_VIRTIO_NET)\n"
        f"{LACKS_LINE}more\n{READY_LINE}\n"
    )
    with pytest.raises(BootFailed, match=r"cannot be tested: it found no network card \(CONFIG_V"):
        hypervisor.wait_for_boot(Deadline.after(30))
    assert hypervisor.killed


def test_an_initrd_with_more_files(tmp_path: Path) -> None:
    """A second archive follows the first, as the kernel unpacks them; the first stays as it is."""
    initrd = tmp_path / "initrd"
    initrd.write_bytes(b"first")
    module = tmp_path / "virtio.ko"
    module.write_bytes(b"a module")
    target = tmp_path / "own"
    extend_initrd(
        initrd, {"/lib/modules/boot/00-virtio.ko": module}, target, deadline=Deadline.after(30)
    )
    content = target.read_bytes()
    assert content.startswith(b"first")
    assert initrd.read_bytes() == b"first"
    (tmp_path / "second").write_bytes(content.removeprefix(b"first"))
    listed = run(
        ["cpio", "--list", "--quiet", f"--file={tmp_path / 'second'}"], deadline=Deadline.after(30)
    ).stdout.split()
    assert "lib/modules/boot/00-virtio.ko" in listed
    assert target.stat().st_mode & 0o777 == 0o600
