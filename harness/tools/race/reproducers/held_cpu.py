# SPDX-License-Identifier: GPL-2.0-only
"""A CPU that is held inside klp_ftrace_handler(), while another one removes what it reads.

klp_test_hold (livepatch-modules/) does that with probes. On hardware an interrupt does it, or the
host that gives the CPU to another guest. The handler runs with preemption off, and whoever changes
what it reads has to wait for all CPUs before the next step.

- klp_complete_transition() (kernel/livepatch/transition.c) waits with schedule_on_each_cpu() before
  it resets the patch states, and does not look whether that had memory for it. At the end of a
  disable that is after it has removed the functions.
- ftrace_startup() (kernel/trace/ftrace.c) puts an ftrace_ops on the list that all CPUs walk, and
  takes it off again when the function has another ops that changes its address (a kprobe with a
  post_handler). klp_patch_func() (kernel/livepatch/patch.c) then frees the ops. No line there says
  that it waits for the CPUs that walk the list: ftrace_remove_trampoline_from_kallsyms() does.
"""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from harness.errors import HarnessError
from harness.livepatch.waiting import QUICK_S, scaled
from harness.tools.race.reproducer import reproducer

if TYPE_CHECKING:
    from collections.abc import Iterable

    from harness.livepatch.guest import GuestProcess
    from harness.livepatch.modules import Module
    from harness.livepatch.patch import Livepatch, Patch
    from harness.tools.race.trial_context import TrialContext

HOLD, PROBE, NO_MEMORY = "klp_test_hold", "klp_test_kprobe", "klp_test_nomem"
PATCH, FUNCTION = "klp_test_cmdline_a", "cmdline_proc_show"
BELOW = "klp_test_cmdline_b"
TRACING = "/sys/kernel/tracing"
# A kernel that waits for the CPU waits so long.
HOLD_MS = 1500
# Masks, as taskset(1) takes them.
FIRST_CPU, SECOND_CPU = "1", "2"
CMDLINE = "/proc/cmdline"
_HANDLER = "klp_ftrace_handler"
HOLD_NEEDS = ("CONFIG_KPROBES_ON_FTRACE", "CONFIG_OPTPROBES", "CONFIG_DEBUG_FS")
_PROBES = "/sys/kernel/debug/kprobes/list"


@reproducer("ipmodify-rollback", rule="FT-07", shows=_HANDLER, needs=HOLD_NEEDS)
def ipmodify_rollback(context: TrialContext) -> None:
    """A livepatch that a kprobe excludes is refused, and a CPU is about to read its ftrace_ops."""
    guest, livepatch = context.guest, context.livepatch
    probe = livepatch.load_target(PROBE, symbol=FUNCTION, post=True)
    # With two ops on the function, its calls walk the list of all ops.
    guest.write(f"{TRACING}/set_ftrace_filter", FUNCTION)
    guest.write(f"{TRACING}/current_tracer", "function")
    hold = livepatch.load_target(
        HOLD,
        arm="__register_ftrace_function",
        arm_return=True,
        release="klp_patch_object",
        hold_ms=HOLD_MS,
    )
    tasks = start_calls(context, hold, CMDLINE)
    if load_on_first_cpu(context, PATCH):
        raise HarnessError(f"{PATCH} was loaded, though {PROBE} excludes it")
    end_calls(context, hold, tasks)
    guest.write(f"{TRACING}/current_tracer", "nop")
    for module in (hold, probe):
        module.unload()


@reproducer("sync-no-memory", rule="TR-32", shows=_HANDLER, needs=HOLD_NEEDS)
def sync_no_memory(context: TrialContext) -> None:
    """A transition ends without waiting for a CPU that is about to read its task's state."""
    livepatch = context.livepatch
    no_memory = livepatch.load(NO_MEMORY, wait=True)
    hold = load_late_hold(livepatch, arm="klp_complete_transition")
    fail = f"{no_memory.module.path}/parameters/fail"
    context.guest.write(fail, "1")
    tasks = start_calls(context, hold, CMDLINE)
    if not load_on_first_cpu(context, PATCH):
        raise HarnessError(f"{PATCH} was not loaded")
    patch = livepatch.patch(PATCH)
    patch.wait_complete()
    end_calls(context, hold, tasks)
    if no_memory.module.parameter("failed") != "1":
        raise HarnessError("the transition has not called schedule_on_each_cpu()")
    hold.unload()
    for loaded in (patch, no_memory):
        loaded.disable()
        loaded.unload()


@reproducer("disable-sync", rule="ST-03", shows=_HANDLER, needs=HOLD_NEEDS)
def disable_sync(context: TrialContext) -> None:
    """A disable ends without waiting for a CPU that has chosen a function which is removed then.

    Another livepatch of the function keeps ftrace's hook, whose removal would wait, too.
    """
    livepatch = context.livepatch
    lower, upper = (livepatch.load(name, wait=True) for name in (BELOW, PATCH))
    hold = load_late_hold(livepatch, arm="klp_unpatch_objects")
    tasks = start_calls(context, hold, CMDLINE)
    disable_on_first_cpu(context, upper)
    upper.wait_gone()
    end_calls(context, hold, tasks)
    hold.unload()
    upper.unload()
    lower.disable()
    lower.unload()


def load_late_hold(livepatch: Livepatch, *, arm: str, hold_ms: int = HOLD_MS) -> Module:
    """Load what holds a CPU that is about to read its task's patch state.

    From when another CPU enters the function ``arm`` until the transition has ended there.
    """
    return livepatch.load_target(
        HOLD, arm=arm, release="klp_complete_transition", late=True, hold_ms=hold_ms
    )


def start_calls(context: TrialContext, hold: Module, path: str) -> tuple[GuestProcess, ...]:
    """Turn the hold on, and start a task that reads the file on the second CPU.

    The probe that holds a CPU is a jump by then: with a breakpoint interrupts would be off there.
    The first CPU is not idle: the second one would take over its timers (since 6.9), and with them
    the retries of a transition.
    """
    deadline = scaled(context.guest, QUICK_S)
    while not _is_jump(context):
        if deadline.expired:
            raise HarnessError(f"the probe in {_HANDLER}() was not optimized")
    loops = {FIRST_CPU: ":", SECOND_CPU: f"read line <{path}"}
    tasks = tuple(
        context.guest.spawn("taskset", cpu, "sh", "-c", f"while :; do {what}; done")
        for cpu, what in loops.items()
    )
    context.guest.write(f"{hold.path}/parameters/on", "1")
    return tasks


def _is_jump(context: TrialContext) -> bool:
    lines = [line for line in context.guest.read(_PROBES).splitlines() if _HANDLER in line]
    return bool(lines) and all("[OPTIMIZED]" in line for line in lines)


def load_on_first_cpu(context: TrialContext, patch: str) -> bool:
    """Load the livepatch on the first CPU, where its transition goes on; return whether it was."""
    path = context.guest.upload(context.modules[patch])
    insmod = context.guest.spawn("taskset", FIRST_CPU, "insmod", path)
    return insmod.wait(scaled(context.guest, QUICK_S)) == 0


def disable_on_first_cpu(context: TrialContext, patch: Patch) -> None:
    """Disable the livepatch from the first CPU, where its transition goes on."""
    words = ("taskset", FIRST_CPU, "sh", "-c", 'echo 0 >"$1"', "disable", f"{patch.path}/enabled")
    if context.guest.spawn(*words).wait(scaled(context.guest, QUICK_S)) != 0:
        raise HarnessError(f"{patch.name} was not disabled")


def end_calls(context: TrialContext, hold: Module, tasks: Iterable[GuestProcess]) -> None:
    """Stop the tasks; raises HarnessError when no CPU was held in the window."""
    for task in tasks:
        task.signal(signal.SIGKILL)
        task.wait(scaled(context.guest, QUICK_S))
    context.guest.check_splats()
    if hold.parameter("held") != "1":
        raise HarnessError("no CPU entered klp_ftrace_handler() in time")
