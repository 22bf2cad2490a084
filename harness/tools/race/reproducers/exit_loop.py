# SPDX-License-Identifier: GPL-2.0-only
"""A patch of the function in which a task is switched on its way to user mode.

exit_to_user_mode_prepare() (kernel/entry/common.c, with exit_to_user_mode_loop() inlined) calls
klp_update_patch_state(), which looks at no stack: everything that a task does in the kernel should
be over by then. But the function itself is not, and it handles signals afterwards: a task that is
stopped sleeps in it, already switched. Since the function is inlined into code without hooks
(6.12), it cannot be patched.
"""

from __future__ import annotations

import errno
import signal
from typing import TYPE_CHECKING

from harness.errors import ModuleRefused, TransitionTimeout
from harness.livepatch.tasks import PatchState
from harness.livepatch.waiting import QUICK_S, scaled
from harness.tools.race.reproducer import reproducer
from harness.tools.race.reproducers.module_text import ModuleText, show_unloaded_under

if TYPE_CHECKING:
    from harness.livepatch.gates import Gates
    from harness.tools.race.trial_context import TrialContext

PATCH = "klp_test_exit_loop"
FUNCTION, NEWER_FUNCTION = "exit_to_user_mode_prepare", "exit_to_user_mode_loop"
GATE = 0


@reproducer("exit-loop", rule="TR-31")
def exit_loop(context: TrialContext, gates: Gates) -> None:
    """A stopped task sleeps in a patch of the exit to user mode, and the module is unloaded."""
    guest = context.guest
    grep = guest.spawn("grep", "-qwF", FUNCTION, "/proc/kallsyms")
    function = NEWER_FUNCTION if grep.wait(scaled(guest, QUICK_S)) else FUNCTION
    try:
        patch = context.livepatch.load(PATCH, wait=True, function=function)
    except ModuleRefused as refused:
        if refused.errno != errno.EINVAL:
            raise
        return
    text = ModuleText.of(guest, PATCH, context.modules[PATCH])
    sleeper = gates.enter(GATE)
    patch.disable(wait=False)
    context.tasks.wait_all(PatchState.UNPATCHED, held_by=sleeper)
    # Both the flag to be switched and a signal are pending when the task goes to user mode.
    sleeper.process.signal(signal.SIGSTOP)
    gates.open(GATE)
    try:
        patch.unload(scaled(guest, QUICK_S))
    except (TransitionTimeout, ModuleRefused):
        # The kernel keeps the module as long as a task is in it.
        sleeper.process.signal(signal.SIGCONT)
        patch.unload()
        return
    show_unloaded_under(
        context,
        text,
        f"task {sleeper.tid}, which is stopped,",
        lambda: sleeper.process.signal(signal.SIGCONT),
    )
