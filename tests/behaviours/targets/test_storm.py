# SPDX-License-Identifier: GPL-2.0-only
"""A target is loaded and unloaded without a pause while its patch is enabled and disabled."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.livepatch.gates import Gates
from harness.livepatch.patch import Livepatch
from harness.livepatch.tasks import PatchState, Tasks
from harness.livepatch.waiting import QUICK_S, scaled

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.behaviours.conftest import Guestview

TARGET, PATCH = "klp_target_mod", "klp_test_target_fg"
ROUNDS = 2
CYCLES = 3
OLD, NEW = "f original g original", f"f {PATCH} g {PATCH}"

# Argument: the target's file. Each line of input is a number of cycles. Prints a line for each
# cycle: what one read of both functions returned.
_STORM = """
while read cycles; do
    while [ $cycles -gt 0 ]; do
        cycles=$((cycles - 1))
        insmod "$1" || exit 1
        cat /sys/kernel/klp_target/pair || exit 2
        rmmod klp_target_mod || exit 3
    done
done
"""


@pytest.mark.slow(11)
@pytest.mark.behaviour("MO-06")
def test_target_in_a_storm(
    livepatch: Livepatch,
    sample_modules: Mapping[str, Path],
    tasks: Tasks,
    gate: Gates,
    view: Guestview,
) -> None:
    """Each load and unload of the target succeeds, whatever state its patch has.

    The target is loaded and unloaded while the patch is enabled and disabled, and while its
    transition is held and reversed. A sleeper in the body of a patch that this one replaces holds
    it. Both functions are always patched together.
    """
    guest = livepatch.guest
    storm = guest.spawn("sh", "-c", _STORM, "storm", guest.upload(sample_modules[TARGET]))

    def cycles(number: int = CYCLES) -> set[str]:
        deadline = scaled(guest, QUICK_S)
        return {storm.next_line(deadline) for _ in range(number)}

    livepatch.load("klp_test_gate", wait=True)
    for _ in range(ROUNDS):
        storm.write_line(str(CYCLES))
        assert cycles() == {OLD}
        sleeper = gate.enter()
        # The target is loaded and unloaded while each of these starts and ends.
        storm.write_line(str(2 * CYCLES))
        patch = livepatch.load(PATCH, replace=True)
        tasks.wait_all(PatchState.PATCHED, held_by=sleeper)
        assert cycles(2 * CYCLES) <= {OLD, NEW}
        storm.write_line(str(CYCLES))
        assert cycles() == {NEW}, "all but the sleeper have switched"
        assert patch.in_transition
        storm.write_line(str(2 * CYCLES))
        patch.reverse()
        patch.wait_gone()
        assert cycles(2 * CYCLES) <= {OLD, NEW}
        patch.unload()
        sleeper.release()
    storm.write_line(str(2 * CYCLES))
    patch = livepatch.load(PATCH, wait=True)
    assert cycles(2 * CYCLES) <= {OLD, NEW}
    storm.write_line(str(CYCLES))
    assert cycles() == {NEW}
    storm.write_line(str(2 * CYCLES))
    patch.disable()
    patch.unload()
    assert cycles(2 * CYCLES) <= {OLD, NEW}
    storm.write_line(str(CYCLES))
    assert cycles() == {OLD}
    storm.close_stdin()
    assert storm.wait(scaled(guest, QUICK_S)) == 0
    assert TARGET not in view.modules()
    assert tasks.states() == {PatchState.UNDEFINED}
