# SPDX-License-Identifier: GPL-2.0-only
"""A thread in a patched function, after it left all lists of tasks.

release_task() (kernel/exit.c), which exit_notify() calls for a thread that nobody waits for, takes
the thread off the lists. The functions that do_exit() calls afterwards can be patched, and a
transition does not see that a thread is inside. One is exit_task_stack_account(); a kernel without
it, as 5.10, calls free_pipe_info() there for a task that has spliced.

A transition that starts then gives the thread no patch state either. When it calls a function of
that transition, klp_ftrace_handler() (kernel/livepatch/patch.c) finds the state -1, and warns.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from harness.agent_protocol import Op
from harness.errors import HarnessError, ModuleRefused, TransitionTimeout
from harness.livepatch.tasks import PatchState
from harness.livepatch.waiting import QUICK_S, poll, scaled
from harness.tools.race.reproducer import reproducer
from harness.tools.race.reproducers.module_text import ModuleText, show_unloaded_under

if TYPE_CHECKING:
    from harness.livepatch.gates import Gate, Gates
    from harness.livepatch.guest import Guest
    from harness.tools.race.trial_context import TrialContext

PATCH = "klp_test_exit"
LAST_PATCH = "klp_test_exit_rcu"
PROBE, LAST_FUNCTION, LEAVER = "klp_test_kprobe", "do_task_dead", "klp-leaving"
GATE, SLEEPER_GATE = 7, 0
FUNCTION, OLDER_FUNCTION = "exit_task_stack_account", "free_pipe_info"


@reproducer("exit-use-after-free", rule="FO-06")
def exit_use_after_free(context: TrialContext, gates: Gates) -> None:
    """A thread sleeps in a patch's text after exit_notify(), and the module is unloaded."""
    patch = context.livepatch.load(PATCH, wait=True, function=_late_function(context.guest))
    text = ModuleText.of(context.guest, PATCH, context.modules[PATCH])
    tid = _hold_leaver(context.guest, gates[GATE])
    patch.disable(wait=False)
    try:
        patch.unload(scaled(context.guest, QUICK_S))
    except (TransitionTimeout, ModuleRefused):
        # The kernel keeps the module as long as a task is in it.
        gates.open(GATE)
        patch.unload()
        return
    show_unloaded_under(context, text, f"thread {tid}, which is ending,", lambda: gates.open(GATE))


@reproducer(
    "exit-warning",
    rule="FO-08",
    shows=r"klp_ftrace_handler",
    # With LTO the function is a part of do_exit(), though it has a symbol.
    needs=("CONFIG_KPROBES", "!CONFIG_LTO_CLANG"),
)
def exit_warning(context: TrialContext, gates: Gates) -> None:
    """A thread past exit_notify() calls a function whose transition runs: the kernel warns."""
    guest, livepatch = context.guest, context.livepatch
    ends = livepatch.load_target(PROBE, symbol=LAST_FUNCTION, comm=LEAVER)
    holding = livepatch.load(PATCH, wait=True, function=_late_function(guest))
    _hold_leaver(guest, gates[GATE])
    sleeper = gates.enter(SLEEPER_GATE)
    patch = livepatch.load(LAST_PATCH)
    context.tasks.wait_all(PatchState.PATCHED, held_by=sleeper)
    gates.open(GATE)
    hits = f"{ends.path}/parameters/hits"
    if not poll(guest, hits, Op.EQUALS, "1", deadline=scaled(guest, QUICK_S)):
        raise HarnessError(f"the thread that is ending did not call {LAST_FUNCTION}()")
    guest.check_splats()
    sleeper.release()
    for loaded in (patch, holding):
        loaded.disable()
        loaded.unload()


def _late_function(guest: Guest) -> str:
    """Return what this kernel calls after exit_notify(), and PATCH can patch."""
    grep = guest.spawn("grep", "-qwF", FUNCTION, "/proc/kallsyms")
    return OLDER_FUNCTION if grep.wait(scaled(guest, QUICK_S)) else FUNCTION


def _hold_leaver(guest: Guest, gate: Gate) -> int:
    """Start a thread that ends, and return its id when it sleeps in the gate, in PATCH's body."""
    gate.close()
    leaver = guest.spawn("klp-leaver")
    tid = int(json.loads(leaver.next_line(scaled(guest, QUICK_S)))["leaving"])
    gate.await_task(tid)
    return tid
