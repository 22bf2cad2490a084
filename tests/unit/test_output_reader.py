# SPDX-License-Identifier: GPL-2.0-only
"""What arrives on a connection for which a sender sets a timeout meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.deadline import Deadline
from harness.errors import HarnessError
from harness.vm.guest.events import GuestEvents
from harness.vm.guest.output_reader import OutputReader, receive

if TYPE_CHECKING:
    from collections.abc import Callable

LATER_S = 20.0


def connection(*arrives: bytes | Exception) -> Callable[[int], bytes]:
    """Return a ``recv`` to which this happens, one after the other."""
    left = list(arrives)

    def recv(_most: int) -> bytes:
        found = left.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    return recv


def read(*arrives: bytes | Exception) -> OutputReader:
    events = GuestEvents()
    reader = OutputReader(connection(*arrives), events, ended_by=(OSError, EOFError))
    assert events.wait(lambda: reader.ended, Deadline.after(LATER_S))
    return reader


def test_timeouts_of_the_sender_are_not_ends() -> None:
    """Neither before the first bytes nor between them."""
    assert receive(connection(TimeoutError(), TimeoutError(), b"later")) == b"later"
    assert read(TimeoutError(), b"one ", TimeoutError(), b"two", b"").text() == "one two"


@pytest.mark.parametrize("end", [b"", OSError("gone"), EOFError()])
def test_what_came_before_the_end_is_kept(end: bytes | Exception) -> None:
    """However the connection ends."""
    assert read(b"said", end).text() == "said"


def test_other_failures_are_said() -> None:
    """A reader that failed by itself has not the whole output."""
    with pytest.raises(HarnessError, match="cannot be read: ValueError"):
        read(b"said", ValueError("no")).text()
