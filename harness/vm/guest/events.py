# SPDX-License-Identifier: GPL-2.0-only
"""One condition that every source of news about a guest notifies, and every wait waits on."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.deadline import Deadline

_SLICE_S = 0.25


class GuestEvents:
    """News about one guest: console text, monitor events, agent replies, QEMU's end."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._count = 0

    def notify(self) -> None:
        """Wake every wait; called by the reader threads after they have stored their news."""
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

        ``between`` is called before each look and may raise to end the wait. Both run outside the
        lock, so that they may wait for a reader thread themselves.
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
