# SPDX-License-Identifier: GPL-2.0-only
"""What a guest loads from its initrd, and what it says when its kernel cannot serve."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from harness.deadline import Deadline
from harness.errors import BootFailed, KlpError
from harness.vm.guest.initramfs import LACKS_LINE, READY_LINE, extend_initrd
from harness.vm.guest.machine import Machine
from harness.vm.host.process import run

if TYPE_CHECKING:
    from pathlib import Path


class Booted:
    """A hypervisor whose guest has said all that it will say."""

    def __init__(self, said: str) -> None:
        self.console = SimpleNamespace(
            text=lambda: said, contains=lambda text: text in said, tail=lambda: ()
        )
        self.events = SimpleNamespace(wait=lambda condition, _deadline, **_: condition())
        self.killed = False

    def check(self) -> None:
        """It lives."""

    def dump_state(self) -> None:
        """Nothing to show."""

    def kill(self) -> None:
        self.killed = True

    def explain(self, error: KlpError) -> KlpError:
        return error


def machine(said: str) -> tuple[Machine, Booted]:
    hypervisor = Booted(said)
    return Machine(cast("Any", hypervisor), cast("Any", None), time_scale=1.0), hypervisor


def test_a_guest_that_is_ready() -> None:
    """Nothing is amiss."""
    guest, hypervisor = machine(f"[ 1.0] x\n{READY_LINE}\n")
    guest.wait_for_boot()
    assert not hypervisor.killed


def test_a_guest_that_says_what_it_lacks() -> None:
    """The first of what it lacks is the sentence, at once and not after a deadline."""
    guest, hypervisor = machine(
        f"{LACKS_LINE}it found no network card (CONFIG_VIRTIO_NET)\n"
        f"{LACKS_LINE}more\n{READY_LINE}\n"
    )
    with pytest.raises(BootFailed, match=r"cannot be tested: it found no network card \(CONFIG_V"):
        guest.wait_for_boot()
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
