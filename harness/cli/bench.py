# SPDX-License-Identifier: GPL-2.0-only
"""klp-harness bench: what things cost, against their budgets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from harness.bench.measure import (
    Bench,
    cold_build,
    overlap_of_guests,
    start_of_a_guest,
    whole_suite,
)
from harness.bench.peers import virtme_ng
from harness.bench.upstream import upstream_cases
from harness.cli.guard import guarded
from harness.cli.invocation import Invocation
from harness.cli.options import DEFAULT_KERNEL, AccelAsked, AccelOption, JsonFile, KernelSpec
from harness.cli.prepare import (
    KernelAsked,
    describe_accel,
    prepare_accel,
    prepare_kernel,
    prepare_modules,
    run_session,
)
from harness.errors import ExitCode, KlpError
from harness.guest.session import Fresh
from harness.host.cache import Store
from harness.report.results import BenchResult, BenchSide, CheckOutcome
from harness.resources import cache_root

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.bench.figures import Figure
    from harness.kernel.progress import Progress

_CPUS = 2


@guarded
def bench(
    kernel: KernelSpec = DEFAULT_KERNEL,
    accel: AccelOption = AccelAsked.AUTO,
    quick: Annotated[
        bool,
        typer.Option("--quick", help="Leave out what takes minutes: selftests, cold build, suite."),
    ] = False,
    runs: Annotated[int, typer.Option(min=1, metavar="N", help="Starts of a guest.")] = 5,
    cycles: Annotated[int, typer.Option(min=2, metavar="N", help="Cycles of each guest.")] = 5,
    peers: Annotated[
        bool,
        typer.Option(
            "--peers",
            help="Also virtme-ng, from PyPI in an environment of its own, on a kernel for it.",
        ),
    ] = False,
    json_file: JsonFile = None,
) -> int:
    """Measure what the harness costs; each ratio has both its sides from one run.

    Exit code 1 when a budget is missed. The budgets are for two cores; other work on the machine
    spoils the figures.
    """
    with Invocation("bench", json_file=json_file) as invocation:
        terminal = invocation.terminal
        choice = prepare_accel(invocation, accel)
        made = prepare_kernel(invocation, KernelAsked(spec=kernel))
        modules = prepare_modules(terminal, made)
        terminal.print(f"kernel       {made.describe()}")
        terminal.print(f"accelerator  {describe_accel(choice)}")

        def measure(name: str, measurement: Callable[[Progress], list[Figure]]) -> None:
            """Tell each figure as it comes. One that fails does not keep the others from coming."""
            try:
                with terminal.progress() as progress:
                    progress.stage(name)
                    figures = measurement(progress)
            except KlpError as error:
                terminal.error(error)
                if invocation.exit_code is ExitCode.HELD:
                    invocation.exit_code = error.exit_code
                return
            for figure in figures:
                terminal.print(figure.describe())
                invocation.results.append(_result(figure))

        with run_session(choice, cpus=_CPUS, fresh=Fresh.SNAPSHOT, name="bench") as session:
            place = Bench(
                kernel=made,
                modules=modules,
                settings=session.settings,
                folder=session.folder,
                cache=cache_root(),
            )
            measure("starting guests", lambda _: start_of_a_guest(place, runs=runs))
            measure("cycles on fresh guests", lambda _: overlap_of_guests(place, cycles=cycles))
            if not quick:
                measure(
                    "the kernel's selftests",
                    lambda progress: upstream_cases(
                        place, kernel, choice.accel.value, progress=progress
                    ),
                )
            if peers:
                measure(
                    "virtme-ng",
                    lambda progress: virtme_ng(
                        place, kernel, Store(cache_root()), runs=runs, progress=progress
                    ),
                )
        if quick:
            terminal.print("left out by --quick: the kernel's selftests, the cold build, all tests")
        else:
            measure(
                "a cold build", lambda progress: cold_build(kernel, cache_root(), progress=progress)
            )
            measure(
                "all tests",
                lambda progress: whole_suite(kernel, choice.accel.value, progress=progress),
            )
    return invocation.exit_code


def _result(figure: Figure) -> BenchResult:
    missed = figure.met is False
    return BenchResult(
        id=figure.id,
        outcome=CheckOutcome.FAILED if missed else CheckOutcome.PASSED,
        seconds=0.0,
        what=figure.what,
        value=figure.value,
        unit=figure.unit,
        budget=None if figure.budget is None else figure.budget.value,
        bound=None if figure.budget is None else figure.budget.bound.value,
        sides=tuple(
            BenchSide(name=side.name, value=side.value, unit=side.unit, runs=side.runs)
            for side in figure.sides
        ),
    )
