# SPDX-License-Identifier: GPL-2.0-only
"""Patches that are loaded and unloaded in parallel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.livepatch.kernel_log import KernelLog
from harness.livepatch.patch import Livepatch
from harness.livepatch.tasks import PatchState, Tasks
from harness.livepatch.waiting import scaled

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.behaviours.conftest import Guestview

PATCHES = (*(f"klp_test_cmdline_{letter}" for letter in "abcd"), "klp_test_callbacks_a")
ROUNDS, LOADS = 10, 2
END_S = 60

# Arguments: file, name, rounds, loads. Waits for a line, so that all begin together. Makes at least
# so many rounds, until so many loads have succeeded. Prints a line for each: "loaded" and "enabled"
# in sysfs, or the reason of the refusal. While another patch is in transition, the load is refused
# and the disable is delayed (EBUSY).
_CYCLE = """
patch=/sys/kernel/livepatch/$2
round=0
loaded=0
echo ready
read go
while [ $round -lt $3 ] || [ $loaded -lt $4 ]; do
    round=$((round + 1))
    if ! said=$(insmod "$1" 2>&1); then
        echo "refused ${said##*: }"
        sleep 0.1
        continue
    fi
    enabled=$(cat "$patch/enabled")
    until echo 0 >"$patch/enabled"; [ ! -d "$patch" ]; do sleep 0.1; done 2>/dev/null
    until rmmod "$2"; [ ! -d "/sys/module/$2" ]; do sleep 0.1; done 2>/dev/null
    loaded=$((loaded + 1))
    echo "loaded $enabled"
done
"""


@pytest.mark.slow(18)
@pytest.mark.behaviour("LD-08")
def test_parallel_loads(
    livepatch: Livepatch,
    sample_modules: Mapping[str, Path],
    view: Guestview,
    tasks: Tasks,
    kernel_log: KernelLog,
) -> None:
    """Of fifty or more parallel loads each succeeds, or is refused with EBUSY.

    Each patch is loaded at least twice. What was loaded was enabled, and was disabled by a
    transition of its own.
    """
    guest = livepatch.guest
    deadline = scaled(guest, END_S)
    files = {name: guest.upload(sample_modules[name]) for name in PATCHES}
    cycles = [
        guest.spawn("sh", "-c", _CYCLE, "cycle", file, name, str(ROUNDS), str(LOADS))
        for name, file in files.items()
    ]
    for cycle in cycles:
        assert cycle.next_line(deadline) == "ready"
    for cycle in cycles:
        cycle.write_line("go")
    for name, cycle in zip(PATCHES, cycles, strict=True):
        outcomes = list(cycle.lines(deadline))
        assert cycle.wait(deadline) == 0
        assert len(outcomes) >= ROUNDS
        assert set(outcomes) <= {"loaded 1", "refused Device or resource busy"}
        loaded = outcomes.count("loaded 1")
        assert loaded >= LOADS
        # Not "patching complete": mostly the disable comes before, and reverses the enable.
        assert len(kernel_log.matching(f"'{name}': unpatching complete$")) == loaded
    assert livepatch.patches() == []
    assert not view.modules() & set(PATCHES)
    assert view.cmdline() == "original"
    assert tasks.states() == {PatchState.UNDEFINED}
