# SPDX-License-Identifier: GPL-2.0-only
"""Measures the costs of one kernel, in two guests, and makes results of what is found."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.deadline import Deadline
from harness.observer.cost_results import CostResult
from harness.report.base import CheckOutcome
from harness.tools.costs import stacked
from harness.tools.costs.figures import CALLS, FUNCTIONS, SLEEPERS
from harness.tools.costs.guest import CostGuest, make_plugin
from harness.tools.costs.measure_calls import measure_calls
from harness.tools.costs.measure_transitions import measure_transitions, slopes
from harness.tools.costs.points import find_points
from harness.vm.guest import runs
from harness.vm.host.temporary import temporary_folder
from harness.vm.kernel.module import obtain_modules

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from harness.tools.costs.figures import Finding
    from harness.tools.costs.points import CostPoints
    from harness.vm.guest.plugin import Plugin
    from harness.vm.host.accel import AccelChoice
    from harness.vm.kernel.kernel import Kernel

_PREPARE_S = 600.0
_MEMORY_MIB = 512
_DIGEST = 8
# The one CPU does nothing else while the kernel tries to switch 5,000 tasks against 400 functions,
# which takes minutes on a busy host: the guest's deadlines are those of a host with so many guests.
_AS_SLOW_AS = 512


@dataclass(frozen=True, kw_only=True)
class Extent:
    """What is measured: calls or not, and transitions of which sizes (none: no transitions)."""

    calls: bool = True
    sleepers: tuple[int, ...] = SLEEPERS
    functions: tuple[int, ...] = FUNCTIONS

    @property
    def count(self) -> int:
        """How many figures there are of one kernel, but for slopes."""
        # Each size is patched and unpatched, and each number of tasks has attempts in vain.
        return len(CALLS) * self.calls + len(self.sleepers) * (2 * len(self.functions) + 1)


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A kernel with all that its guests need."""

    kernel: Kernel
    points: CostPoints
    modules: Mapping[str, Path]


def prepare(kernel: Kernel, samples: Mapping[str, Path]) -> Prepared:
    """Find out what to observe of a kernel, and build the livepatches that are stacked.

    Raises UsageError for a kernel that cannot be observed.
    """
    points = find_points(kernel)
    with temporary_folder("costs") as folder:
        made = obtain_modules(
            kernel,
            stacked.write_sources(folder),
            store=runs.store(),
            deadline=Deadline.after(_PREPARE_S),
        )
    return Prepared(kernel=kernel, points=points, modules={**samples, **made})


def labels(kernels: Sequence[Kernel]) -> list[str]:
    """Return a name for each kernel: its version, and the digest where two have the same."""
    versions = [kernel.version for kernel in kernels]
    return [
        each.version
        if versions.count(each.version) == 1
        else f"{each.version} {each.digest[:_DIGEST]}"
        for each in kernels
    ]


def measure(
    choice: AccelChoice, prepared: Prepared, extent: Extent, label: str | None = None
) -> Iterator[CostResult]:
    """Yield the figures of a kernel as they come, and slopes at the end.

    ``label`` names the kernel in the results, by default by its version. Raises HarnessError,
    KernelVerdict and the like, as guests do.
    """
    version = label or prepared.kernel.version
    with temporary_folder("costs") as folder:
        plugin = make_plugin(prepared.points, folder, runs.store(), Deadline.after(_PREPARE_S))
        found: list[Finding] = []
        for name in _parts(extent):
            start_s = time.monotonic()
            for finding in _in_a_guest(choice, prepared, extent, plugin, name):
                found.append(finding)
                yield result_of(finding, version, time.monotonic() - start_s)
                start_s = time.monotonic()
        for finding in slopes(found):
            yield result_of(finding, version, 0.0)


def _parts(extent: Extent) -> Iterator[str]:
    if extent.calls:
        yield "calls"
    if extent.sleepers:
        yield "transitions"


def _in_a_guest(
    choice: AccelChoice, prepared: Prepared, extent: Extent, plugin: Plugin, part: str
) -> Iterator[Finding]:
    with (
        runs.open_session(
            choice,
            name="costs",
            guests=_AS_SLOW_AS,
            cpus=1,
            memory_mib=_MEMORY_MIB,
            plugins=lambda _: plugin,
        ) as session,
        session.guest(prepared.kernel, name=part, spare=False) as machine,
    ):
        guest = CostGuest(machine, prepared.modules)
        if part == "calls":
            yield from measure_calls(guest, prepared.points.interrupts)
        else:
            yield from measure_transitions(
                guest, prepared.points, extent.sleepers, extent.functions
            )
        machine.check_splats()


def result_of(finding: Finding, version: str, seconds: float) -> CostResult:
    """Return a finding as a result."""
    return CostResult(
        id=f"{finding.figure}@{version}",
        outcome=CheckOutcome.PASSED,
        seconds=seconds,
        figure=finding.figure,
        kind=finding.kind,
        kernel=version,
        what=finding.what,
        value=statistics.median(finding.values),
        values=finding.values,
        tasks=finding.tasks,
        functions=finding.functions,
        phases=finding.phases,
        locks=finding.locks,
        waits=finding.waits,
    )
