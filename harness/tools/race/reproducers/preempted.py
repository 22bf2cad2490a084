# SPDX-License-Identifier: GPL-2.0-only
"""A task that is preempted between klp_ftrace_handler()'s decision and the jump to what it chose.

The handler (kernel/livepatch/patch.c) reads the task's patch state and sets the address at which
the task is to go on. When ftrace's handlers return, preemption is enabled again, and the task may
be scheduled out. The function that was chosen is not on its stack then, so a transition that takes
this function away switches the task (klp_check_stack_func(), kernel/livepatch/transition.c), which
enters the function afterwards.
"""

from __future__ import annotations

from signal import SIGKILL
from typing import TYPE_CHECKING

from harness.agent_protocol import Op
from harness.deadline import wait_until
from harness.errors import HarnessError
from harness.livepatch.tasks import PatchState
from harness.livepatch.waiting import QUICK_S, poll, scaled
from harness.tools.race.reproducer import reproducer
from harness.tools.race.reproducers.module_text import ModuleText, show_unloaded_under

if TYPE_CHECKING:
    from harness.livepatch.gates import Gates
    from harness.livepatch.patch import Patch
    from harness.livepatch.tasks import TaskHandle, Tasks
    from harness.tools.race.trial_context import TrialContext
    from harness.vm.guest.machine import Machine
    from harness.vm.guest.spawned import SpawnedProcess

PATCH, REPLACING = "klp_test_cmdline_a", "klp_test_cmdline_b"
FUNCTION, CALL = "cmdline_proc_show", ("cat", "/proc/cmdline")
SLEEPING_PATCH = "klp_test_gate"
SLEEPING_FUNCTION, GATE = "klp_gate_wait", 0
WAKER = "klp_test_preempt"
NEEDS = ("CONFIG_PREEMPTION", "CONFIG_KPROBES")
# All of it is on the second CPU, everything else on the first: masks as taskset(1) takes them.
CPU, MASK, ELSEWHERE = 1, "2", "1"
# Of class FIFO. The CPU's workers come first: a transition needs one, and the network may need
# the next, since older kernels run no softirq while ksoftirqd has to run them. The others are those
# of PREEMPT_RT: without them no grace period ends, and no module is unloaded.
CALLER, SPINNER, WORKER = "1", "10", "20"
WORKERS = tuple(f"{name}/{CPU}" for name in ("kworker", "ksoftirqd", "ktimers", "rcuc", "irq_work"))
_LIMIT = "/proc/sys/kernel/sched_rt_runtime_us"
_WAIT = "/sys/kernel/klp_preempt/wait"
_WAITS, _IN_HANDLERS = "wait_show", "ftrace_ops_list_func"
# Kernel threads of a CPU stay there.
_CLEAR = f'for task in /proc/[0-9]*; do taskset -p {ELSEWHERE} "${{task#/proc/}}"; done 2>&1'
# In user mode, where a task that runs can be switched.
_SPIN = f"read called <{_WAIT}; while :; do :; done"


@reproducer("preempted-handler", rule="TR-29", needs=NEEDS, fragment="preempt")
def preempted_handler(context: TrialContext, tasks: Tasks) -> None:
    """A task is preempted before it jumps to a new function, whose module is unloaded."""
    guest, livepatch = context.guest, context.livepatch
    patch = livepatch.load(PATCH, wait=True)
    text = ModuleText.of(guest, PATCH, context.modules[PATCH])
    spinner, caller = _preempt(context, tasks, FUNCTION, CALL)
    # The load itself looks at each task once.
    replacing = livepatch.load(REPLACING, replace=True)
    held = tasks.get(caller.pid).patch_state is PatchState.UNPATCHED
    if held:
        spinner.signal(SIGKILL)
        caller.wait(scaled(guest, QUICK_S))
        replacing.wait_complete()
        patch.unload()
        return
    replacing.wait_complete()
    patch.unload(scaled(guest, QUICK_S))
    show_unloaded_under(
        context,
        text,
        f"task {caller.pid}",
        lambda: spinner.signal(SIGKILL),
        does="was about to jump to",
    )


@reproducer("preempted-disable", rule="TR-29", needs=NEEDS, fragment="preempt")
def preempted_disable(context: TrialContext, gates: Gates, tasks: Tasks) -> None:
    """A task is switched before it jumps to a new function, and sleeps there; that is unloaded."""
    guest = context.guest
    patch = context.livepatch.load(SLEEPING_PATCH, wait=True)
    text = ModuleText.of(guest, SLEEPING_PATCH, context.modules[SLEEPING_PATCH])
    gates.close(GATE)
    call = ("klp-gate", "read", str(GATE))
    spinner, caller = _preempt(context, tasks, SLEEPING_FUNCTION, call)
    held = not _disabled_under(guest, patch, tasks.get(caller.pid))
    spinner.signal(SIGKILL)
    gates[GATE].await_task(caller.pid)
    if held:
        gates.open(GATE)
        patch.unload()
        return
    patch.unload(scaled(guest, QUICK_S))
    show_unloaded_under(context, text, f"task {caller.pid}", lambda: gates.open(GATE))


def _disabled_under(guest: Machine, patch: Patch, task: TaskHandle) -> bool:
    """Disable the livepatch; return whether the preempted task was switched.

    The write looks at each task. When all were switched it ends the transition, and returns when
    the preempted task has run: ftrace waits for that, and for nothing else.
    """
    write = guest.spawn("sh", "-c", f"echo 0 >{patch.path}/enabled")

    def switched() -> bool:
        return task.patch_state is PatchState.UNPATCHED

    def looked() -> bool:
        return switched() or bool(write.output.exit or write.output.ended)

    if not wait_until(looked, scaled(guest, QUICK_S)):
        raise HarnessError(f"the write to {patch.path}/enabled did not look at task {task.tid}")
    return switched()


def _preempt(
    context: TrialContext, tasks: Tasks, function: str, call: tuple[str, ...]
) -> tuple[SpawnedProcess, SpawnedProcess]:
    """Have a task call the function; return who preempted it at its entry, and the task."""
    guest = context.guest
    context.livepatch.load_target(WAKER, function=function)
    guest.write(_LIMIT, "-1\n")  # a FIFO task may keep a CPU for ever
    guest.spawn("sh", "-c", _CLEAR).wait(scaled(guest, QUICK_S))
    workers = [str(task.tid) for task in tasks.sample().tasks if task.comm.startswith(WORKERS)]
    code = guest.spawn("klp-fifo", WORKER, *workers).wait(scaled(guest, QUICK_S))
    if code:
        raise HarnessError(f"the workers of CPU {CPU} were not given priority {WORKER}")
    spinner = _start(guest, SPINNER, "sh", "-c", _SPIN)
    _await(guest, spinner, _WAITS)
    caller = _start(guest, CALLER, *call)
    _await(guest, caller, _IN_HANDLERS)
    return spinner, caller


def _start(guest: Machine, priority: str, *command: str) -> SpawnedProcess:
    return guest.spawn("taskset", MASK, "klp-fifo", priority, "--", *command)


def _await(guest: Machine, process: SpawnedProcess, function: str) -> None:
    stack = f"/proc/{process.pid}/stack"
    if not poll(guest, stack, Op.CONTAINS, function, deadline=scaled(guest, QUICK_S)):
        raise HarnessError(
            f"{process.program} ({process.pid}) was not seen in {function}()",
            hint="a kernel with PREEMPT_DYNAMIC preempts tasks with preempt=full only",
        )
