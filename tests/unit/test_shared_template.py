# SPDX-License-Identifier: GPL-2.0-only
"""A template that one process of a run has booted, as the others find it, without a guest."""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from harness.deadline import Deadline
from harness.vm.guest import snapshot
from harness.vm.guest.qemu import GuestShape
from harness.vm.guest.shared_template import adopt, publish
from harness.vm.guest.snapshot import STATE, Template
from harness.vm.guest.ssh_exchange import SshExchange
from harness.vm.host.accel import Accel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

EXCHANGE = SshExchange(received=((3, "00ff"),), sent=7, kex_init="14", private_key="aa")
ROOT: Any = SimpleNamespace(init=False)


def shape(*, ssh: bool = False, root: Any = None) -> GuestShape:
    return GuestShape(
        image=Path("bzImage"), initrd=Path("initrd"), accel=Accel.TCG, ssh=ssh, root=root
    )


class Owner:
    """The process that has booted the template."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ram = os.memfd_create("ram")
        self.disk = os.memfd_create("disk")
        os.write(self.ram, b"its RAM")
        os.write(self.disk, b"its disk")
        (folder / STATE).write_bytes(b"its state")
        ram, disk = (f"/proc/{os.getpid()}/fd/{each}" for each in (self.ram, self.disk))
        state = folder / STATE
        publish(
            Template(shape=shape(), ram_path=ram, state_path=state, disk_path=disk, ssh=EXCHANGE),
            folder,
        )

    def close(self) -> None:
        os.close(self.ram)
        os.close(self.disk)


@pytest.fixture
def owner(tmp_path: Path) -> Iterator[Owner]:
    yield (one := Owner(tmp_path))
    with contextlib.suppress(OSError):
        one.close()


def open_descriptors() -> set[str]:
    return {each.name for each in Path("/proc/self/fd").iterdir() if each.exists()}


def test_it_outlives_its_owner(owner: Owner) -> None:
    """And an owner after that one, who saves another state in the same folder."""
    wanted = shape(ssh=True, root=ROOT)
    before = open_descriptors()
    with contextlib.ExitStack() as opened:
        found = adopt(owner.folder, wanted, opened)
        assert found is not None
        assert found.disk_path is not None
        assert (found.shape, found.ssh) == (wanted, EXCHANGE)
        owner.close()
        monitor = SimpleNamespace(execute=lambda *_, **__: {"status": "completed"})
        monitor.pass_fd = lambda fd, *_, **__: os.write(fd, b"another state")
        events = SimpleNamespace(wait=lambda done, *_, **__: done())
        qemu: Any = SimpleNamespace(monitor=monitor, events=events, check=None)
        snapshot._save(qemu, owner.folder / STATE, deadline=Deadline.after(60.0))
        assert (owner.folder / STATE).read_bytes() == b"another state"
        assert Path(found.ram_path).read_bytes() == b"its RAM"
        assert Path(found.disk_path).read_bytes() == b"its disk"
        assert found.state_path.read_bytes() == b"its state"
    assert open_descriptors() < before


def as_a_socket(descriptor: int) -> None:
    with socket.socket() as other:
        os.dup2(other.fileno(), descriptor)


def as_another_ram(descriptor: int) -> None:
    other = os.memfd_create("ram")
    os.dup2(other, descriptor)
    os.close(other)


@pytest.mark.parametrize("instead", [as_a_socket, as_another_ram, os.close])
@pytest.mark.parametrize("which", ["ram", "disk"])
def test_its_descriptors_are_something_else_by_now(
    owner: Owner, which: str, instead: Callable[[int], None]
) -> None:
    """Its owner has closed it, and has opened other files since: there is no template any more."""
    before = open_descriptors()
    instead(getattr(owner, which))
    with contextlib.ExitStack() as opened:
        assert adopt(owner.folder, shape(root=ROOT), opened) is None
        assert open_descriptors() <= before


@pytest.mark.parametrize("name", ["owner.json", "ssh-exchange.json", STATE])
def test_a_file_of_it_is_missing(owner: Owner, name: str) -> None:
    """There is no template yet."""
    (owner.folder / name).unlink()
    with contextlib.ExitStack() as opened:
        assert adopt(owner.folder, shape(ssh=True), opened) is None


@pytest.mark.parametrize("name", ["owner.json", "ssh-exchange.json"])
def test_a_file_of_it_was_not_written_to_its_end(owner: Owner, name: str) -> None:
    """Its owner was killed meanwhile."""
    path = owner.folder / name
    path.write_bytes(path.read_bytes()[:-4])
    with contextlib.ExitStack() as opened:
        assert adopt(owner.folder, shape(ssh=True), opened) is None
