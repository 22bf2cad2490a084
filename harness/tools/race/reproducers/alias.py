# SPDX-License-Identifier: GPL-2.0-only
"""An atomic replace of a patch that calls the same function by its other name.

klp_add_object_nops() (kernel/livepatch/core.c) adds a nop for each function that the new patch does
not have, and klp_find_func() compares names. Two names may stand for one address. Then the nop is
placed above the new function, which is as if it belonged to an older patch: tasks that are switched
run the original, and those that are not run the new function, until the transition has ended.

When it has ended, the nop is removed. It is not alone in its list, so klp_unpatch_func() (patch.c)
does not unregister the ftrace_ops, which would wait for all CPUs, and the nop is freed at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.errors import RaceShown
from harness.livepatch.tasks import PatchState
from harness.livepatch.waiting import QUICK_S, scaled
from harness.tools.race.reproducer import reproducer
from harness.tools.race.reproducers.held_cpu import (
    HOLD_NEEDS,
    end_calls,
    load_late_hold,
    load_on_first_cpu,
    start_calls,
)

if TYPE_CHECKING:
    from harness.livepatch.gates import Gates
    from harness.tools.race.trial_context import TrialContext

TARGET, NAME = "klp_target_alias", "klp_named"
OLD, NEW = "klp_test_symbol", "klp_test_alias"
GATE = 0
# DEBUG_KOBJECT_RELEASE (lib/kobject.c) delays what frees the nop by up to 4 s.
FREED_MS = 8000
FILES = "/sys/kernel/klp_alias"


@reproducer("alias-replace", rule="RP-14")
def alias_replace(context: TrialContext, gates: Gates) -> None:
    """Tasks run neither the old nor the new function while one name replaces the other."""
    guest, livepatch = context.guest, context.livepatch
    livepatch.load_target(TARGET)
    old = livepatch.load(OLD, wait=True, object=TARGET, function=NAME)
    gates.close(GATE)
    reader = guest.spawn("cat", f"{FILES}/held")
    gates[GATE].await_task(reader.pid)
    sleeper = context.tasks.get(reader.pid)
    new = livepatch.load(NEW)
    context.tasks.wait_all(PatchState.PATCHED, held_by=sleeper)
    switched = guest.read(f"{FILES}/text").strip()
    gates.open(GATE)
    waiting = reader.next_line(scaled(guest, QUICK_S))
    new.wait_complete()
    after = guest.read(f"{FILES}/text").strip()
    ran = {"switched": switched, "not switched": waiting, "afterwards": after}
    if ran != {"switched": NEW, "not switched": OLD, "afterwards": NEW}:
        raise RaceShown(
            f"while {NEW} replaces {OLD}, a task that is switched runs the function of {switched}, "
            f"and one that is not that of {waiting}; afterwards that of {after} runs"
        )
    old.unload()
    new.disable()
    new.unload()


@reproducer(
    "alias-nop-freed",
    rule="RP-14",
    shows="KASAN: .* in klp_ftrace_handler",
    needs=("CONFIG_KASAN", *HOLD_NEEDS),
    fragment="debug",
)
def alias_nop_freed(context: TrialContext) -> None:
    """A nop that is above the new function is freed while a CPU is about to read it."""
    livepatch = context.livepatch
    livepatch.load_target("klp_target_gate")
    livepatch.load_target(TARGET)
    livepatch.load(OLD, wait=True, object=TARGET, function=NAME)
    hold = load_late_hold(livepatch, arm="klp_discard_nops", hold_ms=FREED_MS)
    tasks = start_calls(context, hold, f"{FILES}/text")
    load_on_first_cpu(context, NEW)
    livepatch.patch(NEW).wait_complete()
    end_calls(context, hold, tasks)
