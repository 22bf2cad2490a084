# SPDX-License-Identifier: GPL-2.0-only
"""klp-harness costs: what live patching costs on a kernel, in instructions of the guest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.exits import guarded
from harness.cli.invocation import Invocation, check_writable, write_file
from harness.cli.options import Accel, AccelAsked, KernelsOptions, ResultFiles
from harness.cli.pages import HtmlPage
from harness.cli.prepare import check_kernels, prepare_accel, prepare_kernel, prepare_modules
from harness.deadline import Deadline
from harness.errors import ExitCode, KlpError, UsageError
from harness.observer.cost_results import CostResult
from harness.observer.plugin_build import obtain_plugin
from harness.observer.watch import require_translation
from harness.tools.costs.figures import FUNCTIONS, MOST_SLEEPERS, SLEEPERS
from harness.tools.costs.page import costs_page
from harness.tools.costs.run import Extent, labels, measure, prepare
from harness.tools.costs.terminal import print_found, print_tables
from harness.vm.guest import runs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.tools.costs.run import Prepared
    from harness.vm.host.accel import AccelChoice

_PLUGIN_S = 120.0
_QUICK = 2


@guarded
def costs(
    *,
    kernels: KernelsOptions,
    files: ResultFiles,
    accel: Accel = AccelAsked.TCG,
    quick: Annotated[
        bool,
        typer.Option(
            "--quick",
            help="Measure calls, and transitions of 1 and 10 functions beside up to 100 sleeping "
            "tasks.",
        ),
    ] = False,
    sleepers: Annotated[
        tuple[int, ...],
        typer.Option(
            "--sleepers",
            metavar="N",
            help="Transitions beside so many sleeping threads; 0: beside none. Repeatable. "
            f"Default: {', '.join(map(str, SLEEPERS))}.",
        ),
    ] = (),
    functions: Annotated[
        tuple[int, ...],
        typer.Option(
            "--functions",
            metavar="N",
            help="Transitions of livepatches with so many functions, up to 400. Repeatable. "
            f"Default: {', '.join(map(str, FUNCTIONS))}.",
        ),
    ] = (),
    html_file: HtmlPage = None,
) -> int:
    """Measure what live patching costs, in instructions that a guest executes.

    A busy host does not change them. Calls of a function that is patched, traced, stacked, in
    transition; transitions beside up to 5,000 sleeping tasks, of up to 400 functions; locks.
    Several kernels are measured in turn and shown side by side.
    """
    extent = _extent(sleepers, functions, quick=quick)
    with Invocation("costs", files) as invocation:
        check_writable(html_file)
        options = kernels.each()
        check_kernels(*options)
        choice = prepare_accel(invocation, accel)
        require_translation(choice, "costs")
        # What this machine lacks is said before a kernel is built.
        obtain_plugin(runs.store(), deadline=Deadline.after(_PLUGIN_S))
        for each in options:
            prepare_kernel(invocation, each)
        made = {kernel.digest: kernel for kernel in invocation.kernels}
        invocation.kernels[:] = made.values()
        names = labels(invocation.kernels)
        prepared = {
            name: prepare(kernel, prepare_modules(invocation.terminal, kernel))
            for name, kernel in zip(names, invocation.kernels, strict=True)
        }
        invocation.print_facts()

        def finish(partial: bool) -> None:
            found = [each for each in invocation.results if isinstance(each, CostResult)]
            print_tables(invocation.terminal, names, found)
            if html_file is not None:
                page = costs_page(names, found, invocation.facts, partial=partial)
                write_file(html_file, page)

        invocation.at_end(finish)
        _measure(invocation, choice, prepared, extent)
    return invocation.exit_code


def _extent(sleepers: Sequence[int], functions: Sequence[int], *, quick: bool) -> Extent:
    """Return what is asked for; raises UsageError for sizes that cannot be."""
    for option, values, limits in (
        ("--sleepers", sleepers, (0, MOST_SLEEPERS)),
        ("--functions", functions, (1, max(FUNCTIONS))),
    ):
        if any(not limits[0] <= value <= limits[1] for value in values):
            raise UsageError(f"{option} takes {limits[0]} to {limits[1]}")
    some = _QUICK if quick else None
    return Extent(
        sleepers=tuple(sorted(set(sleepers))) or SLEEPERS[:some],
        functions=tuple(sorted(set(functions))) or FUNCTIONS[:some],
    )


def _measure(
    invocation: Invocation, choice: AccelChoice, prepared: Mapping[str, Prepared], extent: Extent
) -> None:
    """Take all figures; each is a result, and printed, as soon as it is there.

    Of several kernels, what ends the measuring of one is printed, and the others are measured.
    """
    total = extent.count * len(prepared)
    done = 0
    with invocation.terminal.progress() as progress:
        for name, each in prepared.items():
            progress.stage(f"costs of {name}")
            try:
                for result in measure(choice, each, extent, name):
                    invocation.results.append(result)
                    print_found(invocation.terminal, result)
                    if not result.is_slope:
                        done += 1
                        progress.count(done, total, "figures")
            except KlpError as error:
                if len(prepared) == 1:
                    raise
                invocation.terminal.error(error)
                invocation.partial = True
                if invocation.exit_code is ExitCode.HELD:
                    invocation.exit_code = error.exit_code
