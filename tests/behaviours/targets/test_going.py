# SPDX-License-Identifier: GPL-2.0-only
"""A patch that is loaded while its target is unloaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.agent_protocol import Op
from harness.livepatch.gates import Gates
from harness.livepatch.kernel_log import KernelLog
from harness.livepatch.patch import Livepatch
from harness.livepatch.waiting import QUICK_S, poll, scaled

if TYPE_CHECKING:
    from tests.behaviours.conftest import Guestview

TARGET = "klp_target_leaving"
EXIT_GATE = 5
WAITING = "/proc/klp_gate_waiting"


@pytest.mark.behaviour("MO-05")
@pytest.mark.parametrize("late", [False, True], ids=["in-exit", "after-exit"])
def test_patch_loaded_while_the_target_goes(
    livepatch: Livepatch, gate: Gates, view: Guestview, kernel_log: KernelLog, late: bool
) -> None:
    """A patch that is loaded during its target's exit patches it; after the exit it does not.

    Functions of a going module may be called until its exit has returned, so they are patched until
    then (8cb2c2dc, klp_find_object_module()). When the target is loaded again it is patched.
    """
    guest = livepatch.guest
    livepatch.load_target(TARGET, late=late)
    gate.close(EXIT_GATE)
    leaving = guest.spawn("/sbin/rmmod", TARGET)
    deadline = scaled(guest, QUICK_S)
    assert poll(guest, WAITING, Op.CONTAINS, f"{EXIT_GATE} ", deadline=deadline)
    if late:
        # delete_module() waits for the async function once klp_module_going() is over.
        stack = f"/proc/{leaving.pid}/stack"
        assert poll(guest, stack, Op.CONTAINS, "async_synchronize", deadline=deadline)
    # async_probe: do_init_module() would wait for the async function as well.
    patch = livepatch.load(
        "klp_test_symbol",
        wait=True,
        object=TARGET,
        function="klp_leaving_text",
        async_probe=True,
    )
    assert patch.enabled
    assert view.shows_patched(patch.object(TARGET), patched=not late)
    assert ("klp_leaving_text" in view.enabled_functions()) is not late
    gate.open(EXIT_GATE)
    assert leaving.wait(scaled(guest, QUICK_S)) == 0
    assert view.shows_patched(patch.object(TARGET), patched=False)
    assert kernel_log.matching(f"exit sees: {'original' if late else patch.name}$")
    kernel_log.mark()
    livepatch.load_target(TARGET)
    assert kernel_log.matching(f"init sees: {patch.name}$")
    assert view.shows_patched(patch.object(TARGET), patched=True)
