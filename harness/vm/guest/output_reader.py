# SPDX-License-Identifier: GPL-2.0-only
"""What arrives on a connection that another thread sends on meanwhile."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

from harness.errors import HarnessError

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.vm.guest.events import GuestEvents

_CHUNK = 65536


def receive(take: Callable[[int], bytes]) -> bytes:
    """Return the next bytes, b"" at their end; blocks. ``take`` is ``recv`` of the connection.

    A timeout that somebody has set to send is one of ``recv`` too, and there means nothing.
    """
    while True:
        with contextlib.suppress(TimeoutError):
            return take(_CHUNK)


class OutputReader:
    """Reads one output of a command to its end, in a thread of its own."""

    def __init__(
        self,
        take: Callable[[int], bytes],
        events: GuestEvents,
        *,
        ended_by: tuple[type[Exception], ...],
    ) -> None:
        """``ended_by`` is what ``take`` raises when the connection has ended."""
        self._take = take
        self._events = events
        self._ended_by = ended_by
        self._pieces: list[bytes] = []
        self._failure: Exception | None = None
        self.ended = False
        threading.Thread(target=self._read, name="ssh-output", daemon=True).start()

    def text(self) -> str:
        """Return all of it; raises HarnessError when reading it failed."""
        if self._failure is not None:
            raise HarnessError(f"the output of a command cannot be read: {self._failure!r}")
        return b"".join(self._pieces).decode(errors="replace")

    def _read(self) -> None:
        try:
            while data := receive(self._take):
                self._pieces.append(data)
                self._events.notify()
        except self._ended_by:
            pass  # which the wait for the command sees
        except Exception as error:  # noqa: BLE001 - raised by `text`, where somebody waits
            self._failure = error
        self.ended = True
        self._events.notify()
