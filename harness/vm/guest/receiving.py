# SPDX-License-Identifier: GPL-2.0-only
"""What arrives on a connection that another thread sends on meanwhile."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_CHUNK = 65536


def receive(take: Callable[[int], bytes]) -> bytes:
    """Return the next bytes, b"" at their end; blocks. ``take`` is ``recv`` of the connection.

    A timeout that somebody has set to send is one of ``recv`` too, and there means nothing.
    """
    while True:
        with contextlib.suppress(TimeoutError):
            return take(_CHUNK)
