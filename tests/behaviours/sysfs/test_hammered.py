# SPDX-License-Identifier: GPL-2.0-only
"""Attributes that are read and written from many tasks while their patch goes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.deadline import Deadline
from harness.livepatch.patch import Livepatch
from harness.livepatch.waiting import scaled

if TYPE_CHECKING:
    from tests.behaviours.conftest import Guestview

PATCH = "klp_test_cmdline_a"
WRITERS = 8
READERS = 2
END_S = 60

# Each says "ready" once it has begun, and ends when the patch is gone.
_WRITER = """
echo ready
while [ -d "$1" ]; do
    echo 0 2>/dev/null >"$1/enabled"
    echo 1 2>/dev/null >"$1/force"
done 2>/dev/null
exit 0
"""
_READER = """
echo ready
while [ -d "$1" ]; do
    cat "$1"/* "$1"/*/* >/dev/null
done 2>/dev/null
exit 0
"""


@pytest.mark.behaviour("SY-06")
def test_hammered_while_it_is_disabled(livepatch: Livepatch, view: Guestview) -> None:
    """Eight writers of enabled and force, and readers of all attributes: none hangs, no splat."""
    guest = livepatch.guest
    patch = livepatch.load(PATCH, wait=True)
    deadline: Deadline = scaled(guest, END_S)
    readers = [guest.spawn("sh", "-c", _READER, "read", patch.path) for _ in range(READERS)]
    for process in readers:
        assert process.next_line(deadline) == "ready"
    writers = [guest.spawn("sh", "-c", _WRITER, "write", patch.path) for _ in range(WRITERS)]
    for process in (*writers, *readers):
        assert process.wait(deadline) == 0
    patch.wait_gone()
    assert view.cmdline() == "original"
    assert livepatch.patches() == []
    # Not unload(): force may have pinned the module, which is as it should be (FC-02).
    livepatch.load("klp_test_cmdline_b", wait=True)
    assert view.cmdline() == "klp_test_cmdline_b"
