# SPDX-License-Identifier: GPL-2.0-only
"""A guest that another process runs, used from this one: by SSH, with an agent of its own.

Who runs it watches it: its console, its end, and whether it hangs are told there. Here a guest that
has died is a connection that ended.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from harness.vm.guest.address import Address
from harness.vm.guest.events import GuestEvents
from harness.vm.guest.initramfs import MODULE_DIR
from harness.vm.guest.keys import RunKeys
from harness.vm.guest.machine import Machine

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.errors import KlpError
    from harness.vm.guest.hypervisor import Hypervisor


_ASK_S = 15.0


def address_of(machine: Machine) -> Address:
    """Return what another process of this user needs to visit a guest of ours."""
    return Address(
        port=machine.hypervisor.monitor.ssh_port(deadline=machine.scaled(_ASK_S)),
        host_public=machine.keys.host_public,
        client_key=str(machine.keys.client_key),
        cpus=machine.hypervisor.shape.cpus,
        time_scale=machine.time_scale,
        folder=str(machine.folder),
    )


@contextlib.contextmanager
def attached(address: Address) -> Iterator[Machine]:
    """Give a guest of another process, connected; it goes on when this ends.

    Raises LostConnection when it cannot be reached.
    """
    key = Path(address.client_key)
    keys = RunKeys(host_key=key, host_public=address.host_public, client_key=key, client_public="")
    # What its owner sends it is not to be overwritten.
    place = f"{MODULE_DIR}/visit-{os.getpid()}"
    elsewhere = cast("Hypervisor", _Elsewhere(address))
    with Machine(elsewhere, keys, time_scale=address.time_scale, uploads_to=place) as machine:
        machine.connect()
        yield machine


class _Elsewhere:
    """What a Machine asks of the QEMU that it runs in, where that is another process's."""

    agent_line = None

    def __init__(self, address: Address) -> None:
        self.events = GuestEvents()
        self.folder = Path(address.folder)
        self.shape = SimpleNamespace(cpus=address.cpus)
        self.monitor = SimpleNamespace(ssh_port=lambda **_: address.port)
        self.console = SimpleNamespace(tail=lambda *_: ())

    def explain(self, error: KlpError) -> KlpError:
        """Return the error: whoever has the console adds to it."""
        return error

    def check(self) -> None:
        """Raise nothing: the owner looks."""

    def settle(self, *_: Any) -> None:
        """Raise nothing: the owner looks."""

    def dump_state(self) -> None:
        """Leave that to the owner."""

    def kill(self) -> None:
        """Leave that to the owner."""
