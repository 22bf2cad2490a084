# SPDX-License-Identifier: GPL-2.0-only
"""A task in the part of a patched function that the compiler has moved away: NAME.cold.

klp_check_stack_func() (kernel/livepatch/transition.c) compares the addresses of a stack with one
range, from the start of the function to the end that kallsyms gives. Branches that GCC takes for
unlikely are elsewhere, under a symbol of their own, so a task that sleeps in one is switched inside
the function.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.errors import HarnessError
from harness.livepatch.tasks import PatchState
from harness.livepatch.waiting import QUICK_S, scaled
from harness.tools.race.reproducer import reproducer
from harness.tools.race.reproducers.module_text import ModuleText, show_unloaded_under
from harness.tools.race.reproducers.versions import expect_one_version, next_versions
from harness.vm.elf.symbols import cold_part as cold_symbol

if TYPE_CHECKING:
    from harness.livepatch.gates import Gates
    from harness.tools.race.trial_context import TrialContext
    from harness.vm.guest.spawned import SpawnedProcess

TARGET, PATCH = "klp_target_cold", "klp_test_cold"
OUTER, INNER, NEW_OUTER = "klp_cold_outer", "klp_cold_inner", "klp_test_cold_outer"
GATE = 5
_CALL = "/sys/kernel/klp_cold/call"


# clang moves no cold part away.
NEEDS = ("!CONFIG_CC_IS_CLANG",)


@reproducer("cold-part", rule="TR-26", needs=NEEDS)
def cold_part(context: TrialContext, gates: Gates) -> None:
    """A task sleeps in the cold part of a new function, whose module is unloaded."""
    guest, livepatch = context.guest, context.livepatch
    livepatch.load_target(TARGET)
    patch = livepatch.load(PATCH, wait=True)
    text = ModuleText.of(guest, PATCH, context.modules[PATCH])
    caller = _sleep_in_cold_part(context, gates, module=PATCH, function=NEW_OUTER)
    # The write itself looks at each task once, as a load does.
    patch.disable(wait=False)
    if context.tasks.get(caller.pid).patch_state is PatchState.PATCHED:
        gates.open(GATE)
        next_versions(context, caller)
        patch.unload()
        return
    patch.unload(scaled(guest, QUICK_S))
    show_unloaded_under(context, text, f"task {caller.pid}", lambda: gates.open(GATE))


@reproducer("cold-switched", rule="TR-27", needs=NEEDS)
def cold_switched(context: TrialContext, gates: Gates) -> None:
    """A task in the cold part of an old function is switched, and then calls a new one."""
    livepatch = context.livepatch
    livepatch.load_target(TARGET)
    caller = _sleep_in_cold_part(context, gates, module=TARGET, function=OUTER)
    patch = livepatch.load(PATCH)
    held = context.tasks.get(caller.pid).patch_state is PatchState.UNPATCHED
    gates.open(GATE)
    expect_one_version(
        next_versions(context, caller),
        who=f"task {caller.pid}",
        where=f"slept in {OUTER}.cold",
        functions=(OUTER, INNER),
        held=held,
    )
    patch.wait_complete()
    patch.disable()
    patch.unload()


def _sleep_in_cold_part(
    context: TrialContext, gates: Gates, *, module: str, function: str
) -> SpawnedProcess:
    """Start a call; return when it sleeps in the cold part of that function of the module."""
    symbol = cold_symbol(context.modules[module], function)
    if symbol is None:
        raise HarnessError(
            f"the compiler made no cold part of {function}() in {module}",
            hint="the function has an unlikely branch that calls a cold function, which GCC moves "
            "away at -O2",
        )
    gates.close(GATE)
    caller = context.guest.spawn("cat", _CALL)
    gates[GATE].await_task(caller.pid)
    stack = context.tasks.get(caller.pid).stack()
    if not any(f" {symbol}+" in line for line in stack):
        raise HarnessError(f"task {caller.pid} does not sleep in {symbol}", details=stack)
    return caller
