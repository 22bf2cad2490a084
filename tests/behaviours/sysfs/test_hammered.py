# SPDX-License-Identifier: GPL-2.0-only
"""Attributes that many tasks read and write while their patch is disabled."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.deadline import Deadline
from harness.livepatch.gates import Body, Gates
from harness.livepatch.patch import Livepatch
from harness.livepatch.waiting import scaled

if TYPE_CHECKING:
    from tests.behaviours.conftest import Guestview

PATCH = "klp_test_gate"
WRITERS = 8
READERS = 2
AT_LEAST = 10
END_S = 60

# Arguments: the patch's directory, a number of rounds. Prints "ready" and waits for a line, makes
# its rounds, prints their number and waits for another line. Then it forces the transition, as all
# others do, and goes on until the patch is gone. Its last line is the number of all its rounds.
_WRITER = """
rounds=0
hammer() {
    { echo 0 >"$1/enabled"; echo $2 >"$1/force"; } 2>/dev/null
    rounds=$((rounds + 1))
}
echo ready
read go
while [ $rounds -lt $2 ]; do hammer "$1" 0; done
echo $rounds
read go
hammer "$1" 1
while [ -d "$1" ]; do hammer "$1" 1; done
echo $rounds
"""
_READER = """
rounds=0
echo ready
read go
while
    cat "$1"/* "$1"/*/* >/dev/null 2>&1
    rounds=$((rounds + 1))
    [ -d "$1" ]
do :; done
echo $rounds
"""


@pytest.mark.slow(7)
@pytest.mark.behaviour("SY-06")
def test_hammered_while_it_is_disabled(livepatch: Livepatch, gate: Gates, view: Guestview) -> None:
    """Eight writers of enabled and force, and readers of all attributes: none hangs, no splat.

    A sleeper in the new body holds the transition until each writer has made its rounds; then all
    of them force it at once.
    """
    guest = livepatch.guest
    patch = livepatch.load(PATCH, wait=True)
    sleeper = gate.enter()
    deadline: Deadline = scaled(guest, END_S)
    readers = [guest.spawn("sh", "-c", _READER, "read", patch.path) for _ in range(READERS)]
    writers = [
        guest.spawn("sh", "-c", _WRITER, "write", patch.path, str(AT_LEAST)) for _ in range(WRITERS)
    ]
    for process in (*readers, *writers):
        assert process.next_line(deadline) == "ready"
    for process in (*readers, *writers):
        process.write_line("go")
    for process in writers:
        assert process.next_line(deadline) == str(AT_LEAST)
    assert (patch.enabled, patch.in_transition) == (False, True)
    for process in writers:
        process.write_line("go on")
    for process in (*readers, *writers):
        least = AT_LEAST + 1 if process in writers else 1
        assert int(process.next_line(deadline)) >= least
        assert process.wait(deadline) == 0
    patch.wait_gone()
    assert sleeper.release().body is Body.PATCHED
    assert gate.call().body is Body.ORIGINAL
    assert livepatch.patches() == []
    # Not unload(): force has pinned the module (FC-02).
    livepatch.load("klp_test_cmdline_b", wait=True)
    assert view.cmdline() == "klp_test_cmdline_b"
