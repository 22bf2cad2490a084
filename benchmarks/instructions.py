# SPDX-License-Identifier: GPL-2.0-only
"""What live patching costs in instructions of the guest, which no busy host changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.figures import Figure
from harness.tools.costs.figures import FUNCTIONS, SLEEPERS
from harness.tools.costs.run import Extent, measure, prepare
from harness.vm.guest import runs

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from harness.observer.cost_results import CostResult
    from harness.vm.kernel.kernel import Kernel
    from harness.vm.kernel.progress import Progress

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


def figures_of(found: Mapping[str, CostResult]) -> list[Figure]:
    """Return the figures that the benchmarks print, of all costs by their names."""
    return [
        Figure(id=name, what=what, value=found[name].value, unit="instructions")
        for name, what in _SHOWN.items()
        if name in found
    ]
