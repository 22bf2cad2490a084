# SPDX-License-Identifier: GPL-2.0-only
"""What live patching costs, and a guest's start, in instructions, which no busy host changes."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

from benchmarks.figures import Bound, Budget, Figure
from harness.deadline import Deadline
from harness.observer.plugin_build import obtain_plugin
from harness.observer.shared_file import Flag, SharedFile, make_head
from harness.tools.costs.figures import FUNCTIONS, SLEEPERS
from harness.tools.costs.run import Extent, measure, prepare
from harness.vm.guest import runs
from harness.vm.guest.plugin import Plugin
from harness.vm.guest.session import Fresh
from harness.vm.host.accel import Accel
from harness.vm.host.temporary import temporary_folder

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from benchmarks.place import Bench
    from harness.observer.cost_results import CostResult
    from harness.vm.kernel.kernel import Kernel
    from harness.vm.kernel.progress import Progress

ANSWER_MILLIONS = 0.15
SSH_MILLIONS = 0.6
# Of these, 30 are dropbear's arithmetic.
EXCHANGE_MILLIONS = 36.0

_PLUGIN_S = 120.0
_MILLION = 1e6
_SMALL = 2
_SHOWN = {
    "call-unpatched": "a call, not patched",
    "call-patched": "a call, patched",
    "call-patched-tracer": "a call, patched and traced",
    "attempt-task-1-functions": "a task in an attempt to switch all, 1 function",
    "attempt-task-10-functions": "a task in an attempt to switch all, 10 functions",
    "patch-function": "a function to patch",
    "unpatch-function": "a function to unpatch",
}


def instructions(
    kernel: Kernel, modules: Mapping[str, Path], *, progress: Progress
) -> list[Figure]:
    """Measure the costs of a kernel with few tasks and functions; they have no budget.

    KVM has no plugins of QEMU, so the guests are translated, whatever the others are. Raises
    HarnessError where the kernel cannot be observed.
    """
    extent = Extent(sleepers=SLEEPERS[:_SMALL], functions=FUNCTIONS[:_SMALL])
    found = {}
    for result in measure(runs.accelerator("tcg"), prepare(kernel, modules), extent):
        found[result.figure] = result
        progress.count(len(found), None, "figures of costs")
    return figures_of(found)


def start_instructions(bench: Bench, *, times: int) -> list[Figure]:
    """Measure what a restored guest executes until its first answer, and until SSH is there.

    SSH in guests that have it from their template, and in others. The rest of a start is QEMU's
    own. Guests are translated, as above. Raises HarnessError where QEMU has no plugins.
    """
    until: dict[str, list[float]] = {"answer": [], "ssh": [], "exchange": []}
    with temporary_folder("bench") as folder:
        built = obtain_plugin(runs.store(), deadline=Deadline.after(_PLUGIN_S))
        head, size = make_head(flags=Flag.CLOCK | built.flags)
        plugin = Plugin(library=built.library, head=head, size=size, folder=folder)
        with bench.under(Accel.TCG).session(lambda _: plugin) as session:
            for ssh in (True, False) * times:
                with session.guest(
                    bench.kernel, name="counted", fresh=Fresh.SNAPSHOT, ssh=ssh
                ) as machine:
                    observed = machine.hypervisor.observed
                    assert observed is not None
                    until["answer"].append(SharedFile(observed).head.clock / _MILLION)
                    machine.ssh()
                    until["ssh" if ssh else "exchange"].append(
                        SharedFile(observed).head.clock / _MILLION
                    )
    return [
        _start("answer", "its first answer", until["answer"], ANSWER_MILLIONS),
        _start("ssh", "SSH, of a template with SSH", until["ssh"], SSH_MILLIONS),
        _start("exchange", "SSH, of any other", until["exchange"], EXCHANGE_MILLIONS),
    ]


def _start(name: str, what: str, millions: list[float], most: float) -> Figure:
    return Figure(
        id=f"start-{name}",
        what=f"a restored guest executes until {what}",
        value=statistics.median(millions),
        unit="million instructions",
        budget=Budget(bound=Bound.AT_MOST, value=most),
    )


def figures_of(found: Mapping[str, CostResult]) -> list[Figure]:
    """Return the figures that the benchmarks print, of all costs by their names."""
    return [
        Figure(id=name, what=what, value=found[name].value, unit="instructions")
        for name, what in _SHOWN.items()
        if name in found
    ]
