# SPDX-License-Identifier: GPL-2.0-only
"""A forced task below another patch: the kernel forgets in which function it may still be.

force switches a task that sleeps in an old function. klp_force_transition() then marks the patches
that are being disabled or replaced, so that their modules stay (since 29573083; before it, all
patches). A patch that is only below the forced one is not marked. The next transition looks for the
function on top of the stack of functions alone (klp_check_stack_func()), so it does not see a task
in the one below. When an atomic replace has taken both away, the lower module can be unloaded under
that task.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.errors import ModuleRefused, TransitionTimeout
from harness.livepatch.tasks import PatchState
from harness.livepatch.waiting import QUICK_S, scaled
from harness.tools.race.reproducer import reproducer
from harness.tools.race.reproducers.module_text import ModuleText, show_unloaded_under

if TYPE_CHECKING:
    from harness.livepatch.gates import Gates
    from harness.tools.race.trial_context import TrialContext

# Both patch klp_gate_wait(); the last one patches something else, and replaces both.
LOWER, UPPER, REPLACING = "klp_test_gate", "klp_test_gate_callbacks", "klp_test_cmdline_a"
GATE = 0


@reproducer("forced-flag-too-narrow", rule="FC-08")
def forced_flag_too_narrow(context: TrialContext, gates: Gates) -> None:
    """A task sleeps in the patch below a forced one, which is replaced, and unloaded."""
    guest, livepatch = context.guest, context.livepatch
    lower = livepatch.load(LOWER, wait=True)
    text = ModuleText.of(guest, LOWER, context.modules[LOWER])
    sleeper = gates.enter(GATE)
    upper = livepatch.load(UPPER)
    context.tasks.wait_all(PatchState.PATCHED, held_by=sleeper)
    upper.force()
    upper.wait_complete()
    replacing = livepatch.load(REPLACING, replace=True)
    deadline = scaled(guest, QUICK_S)
    try:
        replacing.wait_complete(deadline)
        lower.unload(deadline)
    except (TransitionTimeout, ModuleRefused):
        # The kernel keeps the module as long as a task may be in it.
        sleeper.release()
        return
    show_unloaded_under(context, text, f"task {sleeper.tid}", lambda: gates.open(GATE))
