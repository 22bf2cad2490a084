# SPDX-License-Identifier: GPL-2.0-only
"""What follows the guests of a session while they are used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from harness.vm.guest.plugin import PluginMaker

if TYPE_CHECKING:
    import contextlib

    from harness.vm.guest.machine import Machine
    from harness.vm.kernel.kernel import Bootable


class GuestWatch(PluginMaker, Protocol):
    """Chooses the plugin for the guests of a session, and follows each of them while it is used."""

    def watching(
        self, machine: Machine, kernel: Bootable, name: str
    ) -> contextlib.AbstractContextManager[None]:
        """Return what is held while a guest is used; it may raise a KlpError at the end."""
