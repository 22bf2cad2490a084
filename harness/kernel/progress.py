# SPDX-License-Identifier: GPL-2.0-only
"""What long work tells whoever watches: a terminal draws a bar, a CI log gets plain lines."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Told by the work, in its own thread or in another; must not raise."""

    def stage(self, text: str) -> None:
        """A new step begins, for example ``unpacking linux-source-6.1``."""

    def count(self, done: int, total: int | None, what: str) -> None:
        """So many of so many are done; ``total`` is None when it is not known, never below done."""


class Silent:
    """Tells nobody."""

    def stage(self, text: str) -> None:
        """Do nothing."""

    def count(self, done: int, total: int | None, what: str) -> None:
        """Do nothing."""
