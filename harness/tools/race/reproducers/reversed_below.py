# SPDX-License-Identifier: GPL-2.0-only
"""The disable of a patch that has another one above it is reversed.

klp_check_stack_func() (kernel/livepatch/transition.c) looks on a task's stack for the function that
is to be left. When a patch is enabled, that is the next entry in the list of the functions that
redirect the same one. The patch whose disable is reversed may be the last in that list: then the
list's own head is read as if it were a klp_func.

What the kernel takes for the function's address lies below the klp_ops that has the list, and for
its size it takes the address of the next ftrace_ops. Zeros below it, and the end of the list of all
ftrace_ops next: then each address of the kernel is in that function, and each task is held that is
in the kernel. KASAN reports the first of the two reads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.errors import HarnessError, RaceShown
from harness.livepatch.tasks import PatchState
from harness.livepatch.waiting import QUICK_S, scaled
from harness.tools.race.reproducer import reproducer

if TYPE_CHECKING:
    from harness.agent_protocol import KlogRecord
    from harness.livepatch.gates import Gates
    from harness.tools.race.trial_context import TrialContext

# Both patch klp_gate_wait(). The lower one patches klp_gate_wait_second() as well: gate 4.
LOWER, UPPER = "klp_test_gate", "klp_test_gate_callbacks"
FUNCTION = "klp_gate_wait"
GATE = 4
ZEROES = "klp_test_zeroes"
# A mask, as taskset(1) takes it: memory that was freed on a CPU is allocated there again.
_CPU = "1"
_DYNAMIC_DEBUG = "/sys/kernel/debug/dynamic_debug/control"
# kthreadd never enters a gate.
_WRONG = rf"kthreadd:2 is sleeping on function {FUNCTION}\b"


@reproducer(
    "reverse-out-of-bounds",
    rule="TR-30",
    shows=r"KASAN: .* in klp_(check|try)",
    needs=("CONFIG_DYNAMIC_DEBUG",),
)
def reverse_out_of_bounds(context: TrialContext, gates: Gates) -> None:
    """The reversed disable of a lower patch reads beyond the list of functions, and is held."""
    guest, livepatch = context.guest, context.livepatch
    guest.write(_DYNAMIC_DEBUG, "func klp_try_switch_task +p\n")
    for module in (ZEROES, LOWER):
        path = guest.upload(context.modules[module])
        if guest.spawn("taskset", _CPU, "insmod", path).wait(scaled(guest, QUICK_S)):
            raise HarnessError(f"{module} was not loaded")
    lower = livepatch.patch(LOWER)
    lower.wait_complete()
    upper = livepatch.load(UPPER, wait=True)
    sleeper = gates[GATE].enter()
    lower.disable(wait=False)
    context.tasks.wait_all(PatchState.UNPATCHED, held_by=sleeper)
    context.kernel_log.mark()
    lower.reverse()
    wrong: list[KlogRecord] = []

    def is_decided() -> bool:
        wrong[:] = context.kernel_log.matching(_WRONG)
        return bool(wrong) or not lower.in_transition

    if not guest.wait(is_decided, scaled(guest, QUICK_S)):
        raise lower.overdue(QUICK_S)
    if wrong:
        raise RaceShown(
            f"the reversed disable of {LOWER} is held by tasks that are in no patched function",
            details=(wrong[0].text, *lower.describe_blockers()),
        )
    sleeper.release()
    for patch in (upper, lower):
        patch.disable()
        patch.unload()
    livepatch.module(ZEROES).unload()
