# SPDX-License-Identifier: GPL-2.0-only
"""Stacks that are hard to unwind (arch/x86/kernel/stacktrace.c)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from harness.livepatch.blockers import Blocker
from harness.livepatch.gates import Body, Gates
from harness.livepatch.kernel_log import KernelLog
from harness.livepatch.patch import Livepatch
from harness.livepatch.tasks import PatchState, Tasks

if TYPE_CHECKING:
    from harness.livepatch.gates import GateTask
    from harness.livepatch.patch import Patch
    from harness.vm.guest.machine import Machine
    from harness.vm.kernel.kernel import Kernel

DYNAMIC_DEBUG = "/sys/kernel/debug/dynamic_debug/control"
TRACING = "/sys/kernel/tracing"
PLAIN = 5  # a gate that no patch touches
SYSCALL = "__x64_sys_getcpu"


@pytest.mark.needs("CONFIG_UNWINDER_ORC")
@pytest.mark.behaviour("TR-19")
@pytest.mark.parametrize(("where", "answer"), [("inside", "lost original"), ("outside", "outside")])
def test_unreliable_stack_is_not_safe(
    guest: Machine,
    kernel: Kernel,
    livepatch: Livepatch,
    tasks: Tasks,
    gate: Gates,
    kernel_log: KernelLog,
    where: str,
    answer: str,
) -> None:
    """A task with an unreliable stack is not switched, try after try, and the log says why.

    Inside: the patched function is on the stack, where the unwinder does not reach it. Outside: it
    is not on the stack, which the kernel cannot know.
    """
    if kernel.config.enabled("LTO_CLANG"):
        pytest.skip("with LTO a function without ORC data is taken for the one in front of it")
    guest.write(DYNAMIC_DEBUG, "file kernel/livepatch/transition.c +p\n")
    livepatch.load_target("klp_target_lost")
    gate.close(PLAIN)
    reader = guest.spawn("cat", f"/sys/kernel/klp_lost/{where}")
    gate[PLAIN].await_task(reader.pid)
    sleeper = tasks.get(reader.pid)
    patch = livepatch.load("klp_test_symbol", object="klp_target_lost", function="klp_target_lost")
    tasks.wait_all(PatchState.PATCHED, held_by=sleeper)
    kernel_log.wait_for(rf":{sleeper.tid} has an unreliable stack")
    assert sleeper.patch_state is PatchState.UNPATCHED
    assert patch.in_transition
    gate.open(PLAIN)
    assert reader.next_line(guest.scaled(10)) == answer
    patch.wait_complete()
    assert not kernel_log.matching(f":{sleeper.tid} is sleeping on"), "a try has two reasons"


@pytest.mark.needs("CONFIG_UNWINDER_ORC")
@pytest.mark.behaviour("TR-19")
def test_unwound_by_the_frame_pointer(
    guest: Machine, livepatch: Livepatch, tasks: Tasks, gate: Gates, kernel_log: KernelLog
) -> None:
    """Where a module has no ORC data, the unwinder reaches user space, and is not believed.

    arch_stack_walk_reliable() ends at the first error: behind it, user mode would mean success.
    """
    guest.write(DYNAMIC_DEBUG, "file kernel/livepatch/transition.c +p\n")
    livepatch.load_target("klp_target_bare")
    gate.close(PLAIN)
    reader = guest.spawn("cat", "/sys/kernel/klp_bare/sleep")
    gate[PLAIN].await_task(reader.pid)
    sleeper = tasks.get(reader.pid)
    assert any("sysfs_kf_seq_show" in line for line in sleeper.stack()), "the unwinder is lost"
    patch = livepatch.load("klp_test_cmdline_a")
    tasks.wait_all(PatchState.PATCHED, held_by=sleeper)
    kernel_log.wait_for(rf":{sleeper.tid} has an unreliable stack")
    assert sleeper.patch_state is PatchState.UNPATCHED
    gate.open(PLAIN)
    assert reader.next_line(guest.scaled(10)) == "bare"
    patch.wait_complete()


@pytest.mark.behaviour("TR-25")
def test_page_fault_of_user_memory(
    guest: Machine, livepatch: Livepatch, tasks: Tasks, gate: Gates
) -> None:
    """A task that sleeps in a page fault of a patched function holds the transition.

    getcpu(2) writes its result to a page of a gate, and so the fault sleeps.
    """
    gate.close(PLAIN)
    caller = guest.spawn("klp-syscall", "gate", str(PLAIN))
    gate[PLAIN].await_task(caller.pid)
    sleeper = tasks.get(caller.pid)
    patch = livepatch.load("klp_test_syscall")
    tasks.wait_all(PatchState.PATCHED, held_by=sleeper)
    assert patch.blockers() == [Blocker(sleeper, in_function=SYSCALL)]
    assert patch.in_transition
    gate.open(PLAIN)
    *_, left = [json.loads(line) for line in caller.lines(guest.scaled(10))]
    assert left["value"] == 0, "the call did not return from the old body"
    patch.wait_complete()


@pytest.mark.behaviour("TR-25")
@pytest.mark.needs("CONFIG_FUNCTION_GRAPH_TRACER")
def test_callee_is_graph_traced(
    guest: Machine, livepatch: Livepatch, tasks: Tasks, gate: Gates
) -> None:
    """A task holds the transition when the function graph tracer traces the callee it sleeps in.

    The tracer has replaced the return address into the patched function by its own.
    """
    guest.write(f"{TRACING}/set_ftrace_filter", "klp_gate_sleep\n")
    guest.write(f"{TRACING}/current_tracer", "function_graph\n")
    patch, sleeper = _blocked_in_callee(livepatch, tasks, gate)
    assert sleeper.release().body is Body.ORIGINAL
    patch.wait_complete()


@pytest.mark.behaviour("TR-25")
@pytest.mark.needs("CONFIG_KPROBES")
def test_callee_has_a_kretprobe(
    guest: Machine, livepatch: Livepatch, tasks: Tasks, gate: Gates
) -> None:
    """A task holds the transition when the callee it sleeps in has a kretprobe.

    That replaces the return address, too. Kernels before 5.15 do not find it, so /proc/TID/stack
    does not show the function. The transition is reversed instead of completed: when a retry finds
    a task that was just woken, rethook_find_ret_addr() of 6.1 warns (kernel/trace/rethook.c).
    """
    finders = ("-e", "kretprobe_find_ret_addr", "-e", "rethook_find_ret_addr")
    is_found = guest.run(["grep", "-qwF", *finders, "/proc/kallsyms"]).ok
    function = "klp_gate_wait" if is_found else None
    livepatch.load_target("klp_test_kretprobe", function="klp_gate_sleep")
    patch, sleeper = _blocked_in_callee(livepatch, tasks, gate, function=function)
    patch.reverse()
    patch.wait_gone()
    assert sleeper.release().body is Body.ORIGINAL


def _blocked_in_callee(
    livepatch: Livepatch,
    tasks: Tasks,
    gate: Gates,
    *,
    function: str | None = "klp_gate_wait",
) -> tuple[Patch, GateTask]:
    enabled = livepatch.guest.read(f"{TRACING}/enabled_functions")
    assert "klp_gate_sleep" in enabled, "the callee is not traced"
    sleeper = gate.enter()
    patch = livepatch.load("klp_test_gate")
    tasks.wait_all(PatchState.PATCHED, held_by=sleeper)
    (blocker,) = patch.blockers()
    assert blocker.task == sleeper
    assert blocker.in_function == function
    return patch, sleeper
