# SPDX-License-Identifier: GPL-2.0-only
"""klp-harness demo: a transition that a sleeping task blocks, and the one back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.cli.exits import guarded
from harness.cli.invocation import Invocation, check_writable
from harness.cli.modules import ModuleFinder
from harness.cli.options import Accel, AccelAsked, CleanKernel, ResultFiles, Smp
from harness.cli.pages import HtmlTimeline, SvgTimeline, write_timelines
from harness.cli.prepare import prepare_accel, prepare_kernel
from harness.livepatch.gates import Gates
from harness.livepatch.tasks import PatchState, Tasks
from harness.observe.watch import Watch
from harness.tools.run.command import make_plans
from harness.tools.run.terminal import print_result
from harness.vm.guest import runs
from harness.vm.guest.session import Fresh

if TYPE_CHECKING:
    from harness.observe.load_plan import Plan
    from harness.report.run_results import RunResult
    from harness.report.terminal import Terminal
    from harness.vm.guest.machine import Machine

_TARGET, _PATCH = "klp_target_gate", "klp_test_gate"
_SHOWN_FRAMES = 6
_NEXT = """
Try next:
  klp-harness run klp_test_callbacks_a   load, watch and unload a patch with callbacks
  klp-harness run YOUR_PATCH.ko          the same with your own, built for this kernel
  klp-harness boot klp_test_cmdline_a    a shell in a guest, the module in /root
  klp-harness test -k TR-                the rules of the transition, each on a fresh guest
  klp-harness --help                     everything else"""


@guarded
def demo(
    kernel: CleanKernel,
    files: ResultFiles,
    accel: Accel = AccelAsked.AUTO,
    smp: Smp = 2,
    html_file: HtmlTimeline = None,
    svg_file: SvgTimeline = None,
) -> int:
    """Show live patching at work: which task blocks a transition, and when each task switches."""
    with Invocation("demo", files) as invocation:
        terminal = invocation.terminal
        check_writable(html_file, svg_file)
        choice = prepare_accel(invocation, accel)
        made = prepare_kernel(invocation, kernel)
        (plan,) = make_plans(ModuleFinder(terminal, made, only=(_TARGET, _PATCH)), made, [_PATCH])
        invocation.print_facts()
        terminal.note("booting a guest")
        with (
            runs.open_session(choice, cpus=smp, fresh=Fresh.BOOT, name="demo") as session,
            session.guest(made, name="demo") as machine,
        ):
            result = _show(terminal, machine, plan)
        invocation.results.append(result)
        print_result(terminal, result)
        title = f"{_PATCH}, blocked by a sleeping task"
        write_timelines([result], invocation.facts, title=title, html=html_file, svg=svg_file)
        terminal.print(_NEXT)
    return invocation.exit_code


def _show(terminal: Terminal, machine: Machine, plan: Plan) -> RunResult:
    watch = Watch(machine, plan)
    watch.begin()
    gates, tasks = Gates(machine), Tasks(machine)
    sleeper = gates.enter(0)
    _step(
        terminal,
        f"Task {sleeper.tid} ({sleeper.comm}) now sleeps inside klp_gate_wait(), a function "
        f"that the livepatch {plan.name} replaces.",
    )
    patch = watch.load()
    tasks.wait_all(PatchState.PATCHED, held_by=sleeper)
    number = len(tasks.in_state(PatchState.PATCHED))
    _step(
        terminal,
        f"{plan.name} is loaded. {number} tasks have switched to 1. The transition is blocked by:",
    )
    for blocker in patch.blockers():
        head, *frames = blocker.describe()
        terminal.print(f"    {head}", *(f"    {line}" for line in frames[:_SHOWN_FRAMES]))
    watch.mark("gate opened")
    left = sleeper.release()
    patch.wait_complete()
    _step(
        terminal,
        f"The gate is open. The task returned from the {left.body.value} function. The kernel "
        "checks once a second which tasks can switch: the transition is complete, and a new call "
        f"runs the {gates.call(0).body.value} function.",
    )
    watch.disable()
    _step(
        terminal,
        f"The patch is disabled, all tasks are back at 0. A call runs the "
        f"{gates.call(0).body.value} function.",
    )
    watch.unload()
    return watch.finish()


def _step(terminal: Terminal, text: str) -> None:
    terminal.print("")
    terminal.prose(f"* {text}", indent="  ")
