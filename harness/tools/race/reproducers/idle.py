# SPDX-License-Identifier: GPL-2.0-only
"""A kernel thread that injects idle time runs the loop of idle tasks, which switches it.

play_idle_precise() (kernel/sched/idle.c), which the driver idle_inject and others call from kernel
threads, calls do_idle(). That ends with klp_update_patch_state(current), which is right for a CPU's
idle task: its stack has nothing but the loop. The thread has its own functions below.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.agent_protocol import Op
from harness.errors import HarnessError
from harness.livepatch.tasks import PatchState
from harness.livepatch.waiting import QUICK_S, poll, scaled
from harness.tools.race.reproducer import reproducer
from harness.tools.race.reproducers.module_text import ModuleText, show_unloaded_under
from harness.tools.race.reproducers.versions import expect_one_version, next_versions

if TYPE_CHECKING:
    from harness.livepatch.gates import Gates
    from harness.livepatch.tasks import TaskHandle
    from harness.tools.race.trial_context import TrialContext
    from harness.vm.guest.spawned import SpawnedProcess

TARGET, PATCH = "klp_target_idle", "klp_test_idle"
OUTER, INNER = "klp_idle_outer", "klp_idle_inner"
# The thread injects idle time between the two.
BEFORE, AFTER = 5, 6
_CALL = "/sys/kernel/klp_idle/call"
_WAITING = "/proc/klp_gate_waiting"


@reproducer("idle-injection", rule="TR-28")
def idle_injection(context: TrialContext, gates: Gates) -> None:
    """A thread injects idle time in a new function, and its module is unloaded."""
    guest, livepatch = context.guest, context.livepatch
    livepatch.load_target(TARGET)
    patch = livepatch.load(PATCH, wait=True)
    text = ModuleText.of(guest, PATCH, context.modules[PATCH])
    reader, injector = _call(context, gates)
    patch.disable(wait=False)
    _inject(gates, injector, PatchState.PATCHED)
    if injector.patch_state is PatchState.PATCHED:
        gates.open(AFTER)
        next_versions(context, reader)
        patch.unload()
        return
    patch.unload(scaled(guest, QUICK_S))
    show_unloaded_under(context, text, f"thread {injector.tid}", lambda: gates.open(AFTER))


@reproducer("idle-switched", rule="TR-28")
def idle_switched(context: TrialContext, gates: Gates) -> None:
    """A thread injects idle time in an old function, and then calls a new one."""
    livepatch = context.livepatch
    livepatch.load_target(TARGET)
    reader, injector = _call(context, gates)
    patch = livepatch.load(PATCH)
    _inject(gates, injector, PatchState.UNPATCHED)
    held = injector.patch_state is PatchState.UNPATCHED
    gates.open(AFTER)
    expect_one_version(
        next_versions(context, reader),
        who=f"thread {injector.tid}",
        where=f"injected idle time in {OUTER}()",
        functions=(OUTER, INNER),
        held=held,
    )
    patch.wait_complete()
    patch.disable()
    patch.unload()


def _call(context: TrialContext, gates: Gates) -> tuple[SpawnedProcess, TaskHandle]:
    """Start a call; return its reader and its thread, which sleeps in the outer function."""
    guest = context.guest
    gates.close(BEFORE)
    gates.close(AFTER)
    reader = guest.spawn("cat", _CALL)
    if not poll(guest, _WAITING, Op.CONTAINS, f"{BEFORE} ", deadline=scaled(guest, QUICK_S)):
        raise HarnessError(f"no thread of {TARGET} sleeps in gate {BEFORE}")
    (tid,) = gates.waiting(BEFORE)
    return reader, context.tasks.get(tid)


def _inject(gates: Gates, injector: TaskHandle, state: PatchState) -> None:
    """Let the thread, which the transition has to wait for, inject; return when it has."""
    if injector.patch_state is not state:
        raise HarnessError(
            f"thread {injector.tid} was switched before it injected idle time",
            details=injector.stack(),
        )
    gates.open(BEFORE)
    gates[AFTER].await_task(injector.tid)
