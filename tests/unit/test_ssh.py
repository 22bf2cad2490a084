# SPDX-License-Identifier: GPL-2.0-only
"""A channel to a guest, as the harness uses it, without a guest."""

from __future__ import annotations

from typing import Any

import paramiko
import pytest

from harness.vm.guest.ssh import Stream


class Ending:
    """A channel whose connection has just gone from under it."""

    def __init__(self, error: Exception) -> None:
        self._error = error
        self.asked = 0

    def close(self) -> None:
        self.asked += 1
        raise self._error


@pytest.mark.parametrize("error", [EOFError(), OSError("gone"), paramiko.SSHException("gone")])
def test_closing_what_has_just_ended_is_no_failure(error: Exception) -> None:
    """paramiko says so when its thread has seen the end a moment before (Packetizer.write_all)."""
    channel: Any = Ending(error)
    Stream(channel).close()
    assert channel.asked == 1
