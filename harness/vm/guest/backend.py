# SPDX-License-Identifier: GPL-2.0-only
"""What a Machine needs of whatever runs its guest: a QEMU of this process, or of another one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pathlib import Path

    from harness.deadline import Deadline
    from harness.errors import KlpError
    from harness.vm.guest.events import GuestEvents
    from harness.vm.guest.lines import Lines


class Backend(Protocol):
    """What runs one guest, and knows how it ended."""

    @property
    def events(self) -> GuestEvents:
        """What wakes every wait for this guest."""

    @property
    def folder(self) -> Path:
        """Where the guest's logs lie."""

    @property
    def cpus(self) -> int:
        """How many CPUs the guest was asked for."""

    @property
    def lines(self) -> Lines | None:
        """The lines to the guest; None where agent and SSH are reached through a loopback port."""

    def ssh_port(self, deadline: Deadline) -> int:
        """Return the port on this host's loopback that leads to the guest's SSH."""

    def check(self) -> None:
        """Raise how the guest ended, or its splat, once that is known."""

    def settle(self) -> None:
        """After a failure: give its cause a moment to show, and raise it when it does."""

    def require_ran(self, since_s: float) -> None:
        """Raise unless the guest could run since that moment of ``time.monotonic()``."""

    def could_run_s(self, since_s: float) -> float:
        """Return for how many seconds the guest could run since that moment."""

    def explain(self, error: KlpError) -> KlpError:
        """Return the error with the console's last lines and the folder of all logs."""

    def end_hung(self, silent_s: float) -> KlpError:
        """End a guest that has not answered for so many seconds; return the error that says so."""
