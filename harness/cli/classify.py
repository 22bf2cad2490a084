# SPDX-License-Identifier: GPL-2.0-only
"""klp-harness classify: which consistency model a kernel has, and how that is known."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.cli.guard import guarded
from harness.cli.invocation import Invocation
from harness.cli.options import (
    DEFAULT_KERNEL,
    AccelAsked,
    AccelOption,
    JsonFile,
    JunitFile,
    KernelConfig,
    KernelPatches,
    KernelSpec,
    Sha256,
    Smp,
)
from harness.cli.prepare import (
    KernelAsked,
    describe_accel,
    prepare_accel,
    prepare_kernel,
    prepare_modules,
    run_session,
)
from harness.conformance.classify import FORCED, KERNEL, classify, place
from harness.guest.session import Fresh

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.report.rules import ClassifyResult

_HEADS = {
    KERNEL: "The kernel as it works by itself",
    FORCED: "Tasks that were forced (1 written to `force`)",
}


@guarded
def run_classify(
    kernel: KernelSpec = DEFAULT_KERNEL,
    kernel_config: KernelConfig = None,
    patch: KernelPatches = None,
    sha256: Sha256 = None,
    accel: AccelOption = AccelAsked.AUTO,
    smp: Smp = 2,
    json_file: JsonFile = None,
    junit_file: JunitFile = None,
) -> int:
    """Find the kernel's place in the table LEAVE x SWITCH by experiment.

    Nothing is judged: exit code 1 means that a guest died or complained, that a transition did not
    end, or that what was seen fits no place in the table.
    """
    with Invocation("classify", json_file=json_file, junit_file=junit_file) as invocation:
        terminal = invocation.terminal
        choice = prepare_accel(invocation, accel)
        asked = KernelAsked(
            spec=kernel, sha256=sha256, fragments=tuple(kernel_config or ()), patches=patch or ()
        )
        made = prepare_kernel(invocation, asked)
        modules = prepare_modules(terminal, made)
        terminal.print(f"kernel       {made.describe()}", f"accelerator  {describe_accel(choice)}")
        with run_session(choice, cpus=smp, fresh=Fresh.SNAPSHOT, name="classify") as session:
            results = classify(lambda name: session.guest(made, name=name), modules)
        invocation.results += results
        invocation.more |= {"leave": results[0].leave, "switch": results[0].switch}
        for result in results:
            terminal.print("")
            for line in tell(result):
                terminal.prose(line, indent="  ")
    return invocation.exit_code


def tell(result: ClassifyResult) -> Iterator[str]:
    """Yield a result for a person, each line to be broken where it suits."""
    yield f"{_HEADS[result.id]}: {place(result)}"
    for experiment in result.experiments:
        yield f"- {experiment.id}: {experiment.done}"
        yield f"  {experiment.seen} {experiment.means}"
