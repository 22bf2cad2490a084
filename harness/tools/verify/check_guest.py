# SPDX-License-Identifier: GPL-2.0-only
"""The guest as a check file sees it: what only its owner may do is not there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from harness.errors import UsageError
from harness.livepatch.guest import Guest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.deadline import Deadline
    from harness.vm.guest.command import Ran


class CheckGuest(Guest, Protocol):
    """What the fixture ``guest`` of a check file is.

    The process that verifies the patch owns the guest: it watches the console, declares and judges
    splats, and ends QEMU.
    """

    def run(
        self, argv: Sequence[str], *, stdin: str | bytes = b"", deadline: Deadline | None = None
    ) -> Ran:
        """Run a command to its end and return its exit code and output."""

    def scaled(self, seconds: float) -> Deadline:
        """Return a deadline for something that takes so many seconds on quick hardware."""


MAY_USE = tuple(
    sorted(
        name
        for protocol in (Guest, CheckGuest)
        for name in vars(protocol)
        if not name.startswith("_")
    )
)


class NotForChecks(UsageError, AttributeError):
    """A check file asks for what only the owner of a guest has. ``hasattr`` is False for it."""


class NarrowGuest:
    """Passes on what `CheckGuest` has, and nothing else. Implements CheckGuest."""

    __slots__ = ("_guest",)

    def __init__(self, guest: CheckGuest) -> None:
        self._guest = guest

    def __getattr__(self, name: str) -> object:
        """Return an attribute of the guest; raises NotForChecks for what a check may not use."""
        if name in MAY_USE:
            return getattr(self._guest, name)
        if name.startswith("__"):
            # Python and pytest look for these on any object.
            raise AttributeError(name)
        raise NotForChecks(
            f"a check file may not use guest.{name}",
            hint=f"it may use guest.{', '.join(MAY_USE)}; splats are found without it, since "
            "verify reads the log of the guest",
        )
