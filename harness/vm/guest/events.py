# SPDX-License-Identifier: GPL-2.0-only
"""What wakes every wait for a guest: its reader threads notify one condition."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.deadline import Deadline

_SLICE_S = 0.25


class GuestEvents:
    """Events of one guest: console text, monitor events, agent replies, the end of QEMU.

    It has no content: a wait tests its own condition after each event.
    """

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._count = 0

    def notify(self) -> None:
        """Wake every wait; called by the reader threads after they have stored what they read."""
        with self._condition:
            self._count += 1
            self._condition.notify_all()

    def wait(
        self,
        condition: Callable[[], bool],
        deadline: Deadline,
        *,
        between: Callable[[], None] = lambda: None,
    ) -> bool:
        """Wait until the condition holds; return False when the deadline came first.

        ``between`` is called after each test of the condition and may raise to end the wait. Both
        run outside the lock, so that they may wait for a reader thread themselves.
        """
        while True:
            seen = self._count
            if condition():
                return True
            between()
            if deadline.expired:
                return condition()
            with self._condition:
                if self._count == seen:
                    self._condition.wait(min(_SLICE_S, deadline.remaining_s))
