# SPDX-License-Identifier: GPL-2.0-only
"""The exit race: a thread in a patched function, after it left all lists of tasks.

release_task() (kernel/exit.c), which exit_notify() calls for a thread that nobody waits for, takes
the thread off the lists. The functions that do_exit() calls afterwards can be patched, and a
transition does not see that a thread is inside. One is exit_task_stack_account(); a kernel without
it, as 5.10, calls free_pipe_info() there for a task that has spliced.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from harness.errors import ModuleRefused, TransitionTimeout
from harness.livepatch.waiting import QUICK_S, scaled
from harness.tools.race.reproducer import reproducer
from harness.tools.race.reproducers.module_text import ModuleText, show_unloaded_under

if TYPE_CHECKING:
    from harness.livepatch.gates import Gates
    from harness.tools.race.trial_context import TrialContext

PATCH = "klp_test_exit"
GATE = 7
FUNCTION, OLDER_FUNCTION = "exit_task_stack_account", "free_pipe_info"


@reproducer("exit-use-after-free", rule="FO-06")
def exit_use_after_free(context: TrialContext, gates: Gates) -> None:
    """A thread sleeps in a patch's text after exit_notify(), and the module is unloaded."""
    guest = context.guest
    # Not over SSH, which a guest that is recorded does not have.
    grep = guest.spawn("grep", "-qwF", FUNCTION, "/proc/kallsyms")
    function = OLDER_FUNCTION if grep.wait(scaled(guest, QUICK_S)) else FUNCTION
    patch = context.livepatch.load(PATCH, wait=True, function=function)
    text = ModuleText.of(guest, PATCH, context.modules[PATCH])
    gates.close(GATE)
    leaver = guest.spawn("klp-leaver")
    tid = int(json.loads(leaver.next_line(scaled(guest, QUICK_S)))["leaving"])
    gates[GATE].await_task(tid)
    patch.disable(wait=False)
    try:
        patch.unload(scaled(guest, QUICK_S))
    except (TransitionTimeout, ModuleRefused):
        # The kernel keeps the module as long as a task is in it.
        gates.open(GATE)
        patch.unload()
        return
    show_unloaded_under(context, text, f"thread {tid}, which is ending,", lambda: gates.open(GATE))
