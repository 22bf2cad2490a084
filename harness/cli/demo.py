# SPDX-License-Identifier: GPL-2.0-only
"""klp-harness demo: one livepatch goes from 0 to 1 and back while you watch who holds it up."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.cli.guard import guarded
from harness.cli.invocation import Invocation
from harness.cli.modules import ModuleFinder
from harness.cli.options import (
    DEFAULT_KERNEL,
    AccelAsked,
    AccelOption,
    JsonFile,
    JunitFile,
    KernelConfig,
    KernelSpec,
    Sha256,
    Smp,
)
from harness.cli.pages import HtmlTimeline, SvgTimeline, check_page, write_timelines
from harness.cli.prepare import (
    KernelAsked,
    describe_accel,
    prepare_accel,
    prepare_kernel,
    run_session,
)
from harness.cli.run import make_plans
from harness.livepatch.gates import Gates
from harness.livepatch.tasks import PatchState, Tasks
from harness.observe.watch import Watch
from harness.report.story import tell_result

if TYPE_CHECKING:
    from harness.guest.machine import Machine
    from harness.observe.plan import Plan
    from harness.report.results import RunResult
    from harness.report.terminal import Terminal

_PATCH = "klp_test_gate"
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
    kernel: KernelSpec = DEFAULT_KERNEL,
    kernel_config: KernelConfig = None,
    sha256: Sha256 = None,
    accel: AccelOption = AccelAsked.AUTO,
    smp: Smp = 2,
    html_file: HtmlTimeline = None,
    svg_file: SvgTimeline = None,
    json_file: JsonFile = None,
    junit_file: JunitFile = None,
) -> int:
    """Show a transition from 0 to 1 and back: who switches when, and who holds it up."""
    with Invocation("demo", json_file=json_file, junit_file=junit_file) as invocation:
        terminal = invocation.terminal
        check_page(html_file, svg_file)
        choice = prepare_accel(invocation, accel)
        asked = KernelAsked(spec=kernel, sha256=sha256, fragments=tuple(kernel_config or ()))
        made = prepare_kernel(invocation, asked)
        (plan,) = make_plans(ModuleFinder(terminal, made), made, [_PATCH])
        terminal.print(f"kernel       {made.describe()}", f"accelerator  {describe_accel(choice)}")
        terminal.note("booting a guest")
        with (
            run_session(choice, cpus=smp, name="demo") as session,
            session.guest(made, name="demo") as machine,
        ):
            result = _show(terminal, machine, plan)
        invocation.results.append(result)
        tell_result(terminal, result)
        facts = {"kernel": made.describe(), "accelerator": describe_accel(choice)}
        title = f"{_PATCH}, held up by a sleeper"
        write_timelines([result], facts, title=title, html=html_file, svg=svg_file)
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
        f"{plan.name} is loaded. {number} tasks have switched to 1. The transition waits for:",
    )
    for blocker in patch.blockers():
        head, *frames = blocker.describe()
        terminal.print(f"    {head}", *(f"    {line}" for line in frames[:_SHOWN_FRAMES]))
    watch.mark("gate opened")
    left = sleeper.release()
    patch.wait_complete()
    _step(
        terminal,
        f"Its gate is open. The task left through the {left.body.value} body. The kernel looks "
        "once a second who still blocks: the transition is complete, and a new call runs the "
        f"{gates.call(0).body.value} body.",
    )
    watch.disable()
    _step(
        terminal,
        f"Disabled, all tasks went back to 0. A call runs the {gates.call(0).body.value} body.",
    )
    watch.unload()
    return watch.finish()


def _step(terminal: Terminal, text: str) -> None:
    terminal.print("")
    terminal.prose(f"* {text}", indent="  ")
