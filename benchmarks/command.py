# SPDX-License-Identifier: GPL-2.0-only
"""make bench: measure costs and compare them with their budgets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from benchmarks.builds import cold_build, mutant_build, mutants_to_build
from benchmarks.earlier import keep, machine_kind, read_earlier, record_path
from benchmarks.explored import explore_trials
from benchmarks.instructions import instructions, start_instructions
from benchmarks.kept import kept_guest
from benchmarks.measure import (
    overlap_of_guests,
    start_of_a_guest,
    whole_suite,
)
from benchmarks.peers import virtme_ng
from benchmarks.place import Bench
from benchmarks.results import BenchReport, BenchResult, BenchSide
from benchmarks.upstream import upstream_cases
from harness.cli.exits import guarded
from harness.cli.invocation import Invocation
from harness.cli.options import Accel, AccelAsked, CleanKernel, ResultFiles
from harness.cli.prepare import prepare_accel, prepare_kernel, prepare_modules
from harness.errors import ExitCode, KlpError, UsageError
from harness.report.base import CheckOutcome
from harness.resources import cache_root
from harness.vm.guest import runs
from harness.vm.host.capacity import measure_host

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.figures import Figure
    from harness.vm.kernel.progress import Progress

    _Measurement = Callable[[Progress], list[Figure]]

_CPUS = 2
_MUTANT = "mutant-build"
_PEERS = "virtme-ng"
_QUICK = ("guest-start", "guest-overlap")
_INSTRUCTIONS = "instructions"
_KEPT = "kept-guest"
_EXPLORE = "explore-trial"
_USUAL = (
    *_QUICK, _KEPT, _INSTRUCTIONS, _EXPLORE, "upstream-cases", _MUTANT, "cold-build", "suite",
)  # fmt: skip


@guarded
def bench(
    names: Annotated[
        tuple[str, ...],
        typer.Argument(
            metavar="FIGURE",
            help=f"Measure these only: {', '.join((*_USUAL, _PEERS))}.",
            show_default=False,
        ),
    ] = (),
    *,
    kernel: CleanKernel,
    files: ResultFiles,
    accel: Accel = AccelAsked.AUTO,
    quick: Annotated[
        bool,
        typer.Option("--quick", help="Leave out what takes minutes: selftests, builds, the suite."),
    ] = False,
    starts: Annotated[
        int, typer.Option("--runs", min=1, metavar="N", help="Start a guest so many times.")
    ] = 5,
    cycles: Annotated[
        int, typer.Option(min=2, metavar="N", help="Run so many cycles in each guest.")
    ] = 5,
    peers: Annotated[
        bool,
        typer.Option(
            "--peers",
            help="Also measure virtme-ng, which is installed from PyPI, on a kernel of its own.",
        ),
    ] = False,
) -> int:
    """Measure the costs of klp-harness and compare each with its budget, for its developers.

    Both sides of a ratio are measured in the same run, and each figure is compared with the last
    one of the same kind of machine. Exit code 1 when a budget is missed. The budgets are for two
    cores without other work.
    """
    with Invocation("bench", files, report=BenchReport) as invocation:
        terminal = invocation.terminal
        chosen = _chosen(names, quick=quick, peers=peers)
        choice = prepare_accel(invocation, accel)
        made = prepare_kernel(invocation, kernel)
        modules = prepare_modules(terminal, made)
        invocation.print_facts()
        if not names and _MUTANT in chosen and not mutants_to_build(made):
            terminal.note(f"{_MUTANT} is left out: there is no mutant of this kernel")
            chosen -= {_MUTANT}

        kind = machine_kind(
            cores=measure_host().cores, accel=choice.accel.value, kernel=made.version
        )
        earlier = read_earlier(record_path(), kind)
        if earlier.unread:
            terminal.note(f"not all earlier figures can be read: {earlier.unread}")

        def measure(figure: str, name: str, measurement: _Measurement) -> None:
            """Print the figures of a measurement, or its error; the others go on in any case."""
            if figure not in chosen:
                return
            try:
                with terminal.progress() as progress:
                    progress.stage(name)
                    figures = measurement(progress)
            except KlpError as error:
                terminal.error(error)
                if invocation.exit_code is ExitCode.HELD:
                    invocation.exit_code = error.exit_code
                return
            for found in figures:
                terminal.print(found.describe() + earlier.since(found))
                invocation.results.append(_result(found))
            try:
                keep(record_path(), kind, {found.id: found.value for found in figures})
            except OSError as error:
                terminal.note(f"the figures are not kept for later runs: {error}")

        with runs.open_session(choice, cpus=_CPUS, name="bench") as session:
            place = Bench(
                kernel=made,
                modules=modules,
                settings=session.settings,
                folder=session.folder,
                cache=cache_root(),
            )
            measure(
                "guest-start", "starting guests", lambda _: start_of_a_guest(place, runs=starts)
            )
            measure(
                "guest-overlap",
                "cycles on fresh guests",
                lambda _: overlap_of_guests(place, cycles=cycles),
            )
            measure(
                _INSTRUCTIONS,
                "starting guests whose instructions are counted",
                lambda _: start_instructions(place, times=starts),
            )
            measure(
                _EXPLORE,
                "booting guests",
                lambda progress: explore_trials(place, kernel.spec, runs=starts, progress=progress),
            )
            measure(
                "upstream-cases",
                "the kernel's selftests",
                lambda progress: upstream_cases(
                    place, kernel.spec, choice.accel.value, progress=progress
                ),
            )
            measure(
                _PEERS,
                "virtme-ng",
                lambda progress: virtme_ng(
                    place, kernel.spec, runs.store(), runs=starts, progress=progress
                ),
            )
            measure(
                _KEPT,
                "a kept guest",
                lambda progress: kept_guest(
                    place, kernel.spec, choice.accel.value, times=starts, progress=progress
                ),
            )
            measure(
                "suite",
                "all tests",
                lambda progress: whole_suite(
                    place, kernel.spec, choice.accel.value, runs=starts, progress=progress
                ),
            )
        measure(
            _INSTRUCTIONS,
            "costs in instructions",
            lambda progress: instructions(made, modules, progress=progress),
        )
        measure(
            _MUTANT,
            "kernel mutants",
            lambda progress: mutant_build(made, cache_root(), progress=progress),
        )
        measure(
            "cold-build",
            "a cold build",
            lambda progress: cold_build(made, cache_root(), progress=progress),
        )
        if quick:
            left_out = (name for name in _USUAL if name not in chosen)
            terminal.print(f"left out by --quick: {', '.join(left_out)}")
    return invocation.exit_code


def _chosen(names: Sequence[str], *, quick: bool, peers: bool) -> frozenset[str]:
    known = (*_USUAL, _PEERS)
    for name in names:
        if name not in known:
            raise UsageError(f"there is no figure {name}", hint=f"figures are {', '.join(known)}")
    if names and quick:
        raise UsageError("--quick cannot be used with the name of a figure")
    return frozenset(names or (_QUICK if quick else _USUAL)) | ({_PEERS} if peers else frozenset())


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
