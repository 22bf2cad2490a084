# SPDX-License-Identifier: GPL-2.0-only
"""Many patches that are loaded and unloaded at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.livepatch.patch import Livepatch
from harness.livepatch.tasks import PatchState, Tasks
from harness.livepatch.waiting import scaled

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.behaviours.conftest import Guestview

PATCHES = (*(f"klp_test_cmdline_{letter}" for letter in "abcd"), "klp_test_callbacks_a")
ROUNDS = 10
END_S = 60

# Arguments: file, name, rounds. A line for each round: "loaded", or why it was refused.
# A transition of another patch refuses the load, and delays the disable (EBUSY).
_CYCLE = """
patch=/sys/kernel/livepatch/$2
round=0
while [ $round -lt $3 ]; do
    round=$((round + 1))
    if ! said=$(insmod "$1" 2>&1); then
        echo "refused ${said##*: }"
        continue
    fi
    while [ -d "$patch" ]; do echo 0 >"$patch/enabled"; done 2>/dev/null
    while [ -d "/sys/module/$2" ]; do rmmod "$2"; done 2>/dev/null
    echo loaded
done
"""


@pytest.mark.behaviour("LD-08")
def test_parallel_loads(
    livepatch: Livepatch,
    sample_modules: Mapping[str, Path],
    view: Guestview,
    tasks: Tasks,
) -> None:
    """Fifty parallel loads and unloads: each ends loaded, or refused with EBUSY."""
    guest = livepatch.guest
    deadline = scaled(guest, END_S)
    files = {name: guest.upload(sample_modules[name]) for name in PATCHES}
    cycles = [
        guest.spawn("sh", "-c", _CYCLE, "cycle", file, name, str(ROUNDS))
        for name, file in files.items()
    ]
    outcomes = []
    for cycle in cycles:
        outcomes += list(cycle.lines(deadline))
        assert cycle.wait(deadline) == 0
    assert len(outcomes) == ROUNDS * len(PATCHES)
    assert set(outcomes) <= {"loaded", "refused Device or resource busy"}
    assert "loaded" in outcomes
    assert livepatch.patches() == []
    assert not view.modules() & set(PATCHES)
    assert view.cmdline() == "original"
    assert tasks.states() == {PatchState.UNDEFINED}
