# SPDX-License-Identifier: GPL-2.0-only
"""Guests that stand still between two trials."""

from __future__ import annotations

import threading
from typing import Protocol

from harness.errors import HarnessError
from harness.log import LOGGER


class UsedGuest(Protocol):
    """A guest that has made a trial. Implements: `guests.TrialGuest`."""

    def begin_again(self, earlier: str) -> None:
        """Make it ready for another one, after the trial ``earlier``.

        Raises HarnessError when it does not get there, and OSError when it has ended.
        """

    def close(self) -> None:
        """End it."""


class IdleGuests:
    """The guests of a scene that stand still between two trials. Several threads may use it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._guests: list[tuple[UsedGuest, str]] = []
        self._is_closed = False

    def take(self) -> UsedGuest | None:
        """Return one that is ready for another trial; None: there is none."""
        while True:
            with self._lock:
                if not self._guests:
                    return None
                guest, earlier = self._guests.pop()
            try:
                guest.begin_again(earlier)
            except (HarnessError, EOFError, OSError) as error:
                guest.close()
                LOGGER.warning("a guest is not used again after %s: %s", earlier, error)
            else:
                return guest

    def put(self, guest: UsedGuest, name: str) -> None:
        """Keep a guest after a trial that has left nothing."""
        with self._lock:
            if not self._is_closed:
                self._guests.append((guest, name))
                return
        guest.close()

    def close(self) -> None:
        """End them all."""
        with self._lock:
            self._is_closed = True
            guests, self._guests = self._guests, []
        for guest, _ in guests:
            guest.close()
