# SPDX-License-Identifier: GPL-2.0-only
"""klp-harness classify: which consistency model a kernel has, and how that is known."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.cli.exits import guarded
from harness.cli.invocation import Invocation
from harness.cli.options import Accel, AccelAsked, KernelOptions, ResultFiles, Smp
from harness.cli.prepare import prepare_accel, prepare_kernel, prepare_modules
from harness.tools.classify.classify import FORCED, KERNEL, classify, place
from harness.vm.guest import runs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.tools.classify.results import ClassifyResult

_HEADS = {
    KERNEL: "The kernel as it works by itself",
    FORCED: "Tasks that were forced (1 written to `force`)",
}


@guarded
def run_classify(
    kernel: KernelOptions,
    files: ResultFiles,
    accel: Accel = AccelAsked.AUTO,
    smp: Smp = 2,
) -> int:
    """Find the consistency model of a kernel, its place in the table LEAVE x SWITCH, by experiment.

    No model is a failure. Exit code 1 means that a guest died or complained, that a transition did
    not end, or that the observations fit no place in the table.
    """
    with Invocation("classify", files) as invocation:
        terminal = invocation.terminal
        choice = prepare_accel(invocation, accel)
        made = prepare_kernel(invocation, kernel)
        modules = prepare_modules(terminal, made)
        invocation.print_facts()
        with runs.open_session(choice, cpus=smp, name="classify") as session:
            results = classify(lambda name: session.guest(made, name=name), modules)
        invocation.results += results
        invocation.more |= {"leave": results[0].leave, "switch": results[0].switch}
        for result in results:
            terminal.print("")
            for line in result_lines(result):
                terminal.prose(line, indent="  ")
    return invocation.exit_code


def result_lines(result: ClassifyResult) -> Iterator[str]:
    """Yield the lines of a result, which the terminal may wrap."""
    yield f"{_HEADS[result.id]}: {place(result)}"
    for experiment in result.experiments:
        yield f"- {experiment.id}: {experiment.done}"
        yield f"  {experiment.seen} {experiment.means}"
