# SPDX-License-Identifier: GPL-2.0-only
"""A guest that another process runs, used from this one: by SSH, with an agent of its own.

The process that runs it watches its console, and reports how it ended and whether it hangs. Here a
guest that has died is a connection that ended.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import GuestHang
from harness.vm.guest.address import Address
from harness.vm.guest.events import GuestEvents
from harness.vm.guest.initramfs import MODULE_DIR
from harness.vm.guest.keys import RunKeys
from harness.vm.guest.machine import Machine

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.deadline import Deadline
    from harness.errors import KlpError

_ASK_S = 15.0


def address_of(machine: Machine) -> Address:
    """Return what another process of this user needs to use a guest of this process."""
    return Address(
        port=machine.hypervisor.ssh_port(machine.scaled(_ASK_S)),
        host_public=machine.keys.host_public,
        keys=str(machine.keys.folder),
        cpus=machine.hypervisor.cpus,
        time_scale=machine.time_scale,
        folder=str(machine.folder),
    )


@contextlib.contextmanager
def attached(address: Address) -> Iterator[Machine]:
    """Give a guest of another process, connected; it keeps running when this ends.

    Raises LostConnection when it cannot be reached.
    """
    keys = RunKeys(folder=Path(address.keys), host_public=address.host_public, client_public="")
    # Files that its owner has sent must not be overwritten.
    uploads_to = f"{MODULE_DIR}/attached-{os.getpid()}"
    backend = _OtherProcess(address)
    with Machine(backend, keys, time_scale=address.time_scale, uploads_to=uploads_to) as machine:
        machine.connect()
        yield machine


class _OtherProcess:
    """The process that runs the guest. Implements harness.vm.guest.backend.Backend."""

    agent_line = None

    def __init__(self, address: Address) -> None:
        self.events = GuestEvents()
        self.folder = Path(address.folder)
        self.cpus = address.cpus
        self._port = address.port

    def ssh_port(self, _deadline: Deadline) -> int:
        """Return the port that its owner named."""
        return self._port

    def check(self) -> None:
        """Raise nothing: the owner checks the guest."""

    def settle(self) -> None:
        """Raise nothing: the owner checks the guest."""

    def explain(self, error: KlpError) -> KlpError:
        """Return the error: the owner, who has the console, adds to it."""
        return error

    def end_hung(self, silent_s: float) -> KlpError:
        """Return the error alone: the owner ends the guest."""
        return GuestHang(f"the guest has not answered for {silent_s:.0f} s: it hangs")
