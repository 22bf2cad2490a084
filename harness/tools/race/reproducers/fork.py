# SPDX-License-Identifier: GPL-2.0-only
"""The fork race: TIF_PATCH_PENDING and patch_state of a child come from different moments.

dup_task_struct() copies the flag with the parent's thread info, klp_copy_process() the patch state.
What happens to the parent between the two made them differ until 747f7a29, "livepatch: Fix race
between fork and KLP transition".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.errors import RaceShown
from harness.livepatch.tasks import PatchState
from harness.tools.race.reproducer import reproducer

if TYPE_CHECKING:
    from harness.livepatch.forker import Forker
    from harness.livepatch.gates import Gates
    from harness.livepatch.patch import Livepatch

FIX = "747f7a29"
PATCH = "klp_test_gate"
# What klp_complete_transition() finds on a task; a compiler may have inlined it into its caller.
STALE_FLAG = r"WARNING: .*\bklp_(try_)?complete_transition\b"


@reproducer("fork-missing-flag", rule="FO-02", fixed_by=FIX)
def fork_missing_flag(livepatch: Livepatch, gates: Gates, forker: Forker) -> None:
    """The transition starts between the copies of flag and state: the child is never marked.

    It goes on in user mode with state 0, where nothing switches it: a task that stays there holds
    the transition for ever, and forcing does not help.
    """
    parent = forker.clone3(pidfd=gates[0], child_tid=gates[1], spin=True)
    # The child passes a patched function on its way. With the state from before the transition,
    # which its task was copied with, klp_ftrace_handler() would warn.
    gates[1].open()
    patch = livepatch.load(PATCH)
    parent.wait_state(PatchState.UNPATCHED)
    gates[0].open()
    saw = parent.child_saw()
    if PatchState.UNPATCHED in saw:
        read = ", ".join(str(int(state)) for state in saw)
        raise RaceShown(
            f"the child runs in user mode unmarked and unpatched: it read its patch_state as {read}"
        )
    patch.wait_complete()
    parent.finish()


@reproducer("fork-stale-forward", rule="FO-03", fixed_by=FIX, shows=STALE_FLAG)
def fork_stale_forward(livepatch: Livepatch, gates: Gates, forker: Forker) -> None:
    """The parent switches between the copies of flag and state: the child keeps a stale flag."""
    blocker = gates[1].enter()
    parent = forker.clone3(args=gates[2], pidfd=gates[5], child_tid=gates[6])
    patch = livepatch.load(PATCH)
    gates[2].open()
    parent.wait_in(gates[5])  # the flag is copied, the state is not
    parent.wait_state(PatchState.PATCHED)
    gates[5].open()
    parent.child()  # sleeps in gate 6: it has not been in user mode
    blocker.release()
    patch.wait_complete()  # a kernel with the race warns here
    gates[6].open()
    parent.finish()


@reproducer("fork-stale-reverse", rule="FO-04", fixed_by=FIX, shows=STALE_FLAG)
def fork_stale_reverse(livepatch: Livepatch, gates: Gates, forker: Forker) -> None:
    """The transition is reversed between the copies of flag and state: a stale flag as well."""
    in_old_body = gates[0].enter()  # keeps the transition open until it is reversed
    parent = forker.clone3(args=gates[2], pidfd=gates[5], child_tid=gates[6])
    patch = livepatch.load(PATCH)
    in_new_body = gates[1].enter()  # keeps it open afterwards
    gates[2].open()
    parent.wait_in(gates[5])
    patch.reverse()
    parent.wait_state(PatchState.UNPATCHED)
    gates[5].open()
    parent.child()
    in_old_body.release()
    in_new_body.release()
    patch.wait_complete()
    gates[6].open()
    parent.finish()
