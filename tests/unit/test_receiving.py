# SPDX-License-Identifier: GPL-2.0-only
"""What arrives on a connection for which a sender sets a timeout meanwhile."""

from __future__ import annotations

from harness.vm.guest.receiving import receive


def test_timeouts_of_the_sender_are_not_ends() -> None:
    """What comes after them is returned."""
    arrives: list[bytes | Exception] = [TimeoutError(), TimeoutError(), b"later"]

    def recv(_most: int) -> bytes:
        found = arrives.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    assert receive(recv) == b"later"
