# SPDX-License-Identifier: GPL-2.0-only
"""The disable of a patch that has another one above it is reversed.

klp_check_stack_func() (kernel/livepatch/transition.c) looks on a task's stack for the function that
is to be left. When a patch is enabled, that is the next entry in the list of the functions that
redirect the same one. The patch whose disable is reversed may be the last in that list: then the
list's own head is read as if it were a klp_func. The two words that the kernel takes for address
and size of the function decide which tasks hold the transition.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.errors import RaceShown, TransitionTimeout
from harness.livepatch.tasks import PatchState
from harness.livepatch.waiting import QUICK_S, scaled
from harness.tools.race.reproducer import reproducer

if TYPE_CHECKING:
    from harness.livepatch.gates import Gates
    from harness.tools.race.trial_context import TrialContext

# Both patch klp_gate_wait(). The lower one patches klp_gate_wait_second() as well: gate 4.
LOWER, UPPER = "klp_test_gate", "klp_test_gate_callbacks"
GATE = 4


@reproducer(
    "reverse-out-of-bounds",
    rule="TR-30",
    shows=r"KASAN: .* in klp_(check|try)",
    needs=("CONFIG_KASAN",),
)
def reverse_out_of_bounds(context: TrialContext, gates: Gates) -> None:
    """The reversed disable of a lower patch reads beyond the list of functions."""
    livepatch = context.livepatch
    lower = livepatch.load(LOWER, wait=True)
    upper = livepatch.load(UPPER, wait=True)
    sleeper = gates[GATE].enter()
    lower.disable(wait=False)
    context.tasks.wait_all(PatchState.UNPATCHED, held_by=sleeper)
    lower.reverse()
    try:
        # No task is in a function that the kernel has to wait for.
        lower.wait_complete(scaled(context.guest, QUICK_S))
    except TransitionTimeout as error:
        held = lower.blockers()
        raise RaceShown(
            f"the reversed disable of {LOWER} does not complete: {len(held)} tasks hold it, "
            "none of them in a patched function",
            details=error.details,
        ) from error
    sleeper.release()
    for patch in (lower, upper):
        patch.disable()
        patch.unload()
