# SPDX-License-Identifier: GPL-2.0-only
"""A guest that another process runs, used from this one: by SSH, with an agent of its own.

The process that runs it watches its console, and reports how it ended and whether it hangs. Here a
guest that has died is a connection that ended.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import GuestHang
from harness.vm.guest.address import Address
from harness.vm.guest.events import GuestEvents
from harness.vm.guest.initramfs import MODULE_DIR
from harness.vm.guest.keys import RunKeys
from harness.vm.guest.liveness import Liveness
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
        qemu=machine.hypervisor.pid,
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
    with (
        contextlib.closing(backend),
        Machine(backend, keys, time_scale=address.time_scale, uploads_to=uploads_to) as machine,
    ):
        machine.connect()
        yield machine


class _OtherProcess:
    """The process that runs the guest. Implements harness.vm.guest.backend.Backend."""

    lines = None

    def __init__(self, address: Address) -> None:
        self.events = GuestEvents()
        self.folder = Path(address.folder)
        self.cpus = address.cpus
        self._port = address.port
        # The monitor is its owner's; QEMU's threads are there for all processes of this user.
        self._liveness = Liveness(address.qemu, None)

    def close(self) -> None:
        """Stop watching QEMU."""
        self._liveness.close()

    def ssh_port(self, _deadline: Deadline) -> int:
        """Return the port that its owner named."""
        return self._port

    def check(self) -> None:
        """Raise GuestStopped; the owner checks all else."""
        problem = self._liveness.problem()
        if problem is not None:
            raise problem

    def require_ran(self, since_s: float) -> None:
        """Raise GuestStopped or GuestStarved unless the guest could run since that moment."""
        self._liveness.require_ran(since_s)

    def could_run_s(self, since_s: float) -> float:
        """Return for how many seconds the guest could run since that moment."""
        return self._liveness.lost_since(since_s).could_run_s

    def settle(self) -> None:
        """Raise nothing: the owner checks the guest."""

    def explain(self, error: KlpError) -> KlpError:
        """Return the error: the owner, who has the console, adds to it."""
        return error

    def end_hung(self, silent_s: float) -> KlpError:
        """Return the error alone: the owner ends the guest.

        Raises GuestStopped or GuestStarved when the guest could not have answered.
        """
        self.require_ran(time.monotonic() - silent_s)
        return GuestHang(f"the guest has not answered for {silent_s:.0f} s: it hangs")
