# SPDX-License-Identifier: GPL-2.0-only
"""klp-harness compare: the behaviour suite on two kernels, and which rules differ."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.behaviours.compare import compare_rules
from harness.behaviours.results import Change, CompareResult
from harness.cli.child_commands import ChildCommands, Command, Lane
from harness.cli.exits import guarded
from harness.cli.invocation import Invocation
from harness.cli.options import (
    Accel,
    AccelAsked,
    CleanKernel,
    Fragments,
    Guests,
    KernelOptions,
    Llvm,
    ResultFiles,
    Sha256,
    WholeConfig,
)
from harness.cli.prepare import check_kernels, prepare_accel, prepare_kernel, prepare_modules
from harness.deadline import Deadline
from harness.errors import HarnessError, UsageError
from harness.observer.cost_results import CostResult
from harness.report.reason import reason_of
from harness.report.suite_results import TestResult
from harness.vm.guest import runs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.observer.cost_results import CostChange
    from harness.report.terminal import Terminal
    from harness.vm.host.accel import AccelChoice
    from harness.vm.kernel.kernel import Kernel

_SUITES_S = 2 * 3600.0
_SHOWN = (Change.WORSE, Change.OTHER, Change.BETTER)


@guarded
def compare(
    first: Annotated[
        str, typer.Argument(metavar="A", help="The kernel to compare with: 6.1, a source tree, ...")
    ],
    second: Annotated[
        str | None,
        typer.Argument(metavar="B", help="The other kernel; default: A with --series."),
    ] = None,
    series: Annotated[
        tuple[Path, ...],
        typer.Option(
            "--series",
            metavar="FILE",
            help="Patches of the second kernel's sources: a mailbox or a diff. Repeatable.",
        ),
    ] = (),
    select: Annotated[
        str | None,
        typer.Option("-k", metavar="EXPR", help="Run only these tests, as pytest selects them."),
    ] = None,
    costs: Annotated[
        bool,
        typer.Option(
            "--costs",
            help="Measure `costs --quick` on both kernels too, and print the figures that differ; "
            "needs guests that QEMU translates (--accel tcg).",
        ),
    ] = False,
    fragments: Fragments = (),
    config: WholeConfig = None,
    llvm: Llvm = False,
    sha256: Sha256 = None,
    *,
    files: ResultFiles,
    accel: Accel = AccelAsked.AUTO,
    guests: Guests = None,
) -> int:
    """Test two kernels, A and B, for the rules of live patching; show the rules that differ.

    Exit code 1: a rule that holds on A fails on B.
    """
    with Invocation("compare", files) as invocation:
        if second is None and not series:
            raise UsageError(
                f"{first} is compared with nothing",
                hint="name a second kernel, or give patches with --series FILE",
            )
        terminal = invocation.terminal
        one = KernelOptions(
            spec=first, sha256=sha256, fragments=fragments, config=config, llvm=llvm
        )
        sides = (
            one,
            replace(
                one,
                spec=second or first,
                sha256=sha256 if second is None else None,
                patches=series,
            ),
        )
        check_kernels(*sides)
        choice = prepare_accel(invocation, accel)
        if costs:
            _require_translation(choice)
        number = guests or runs.tests_at_a_time(choice)
        for letter, options in zip("AB", sides, strict=True):
            kernel = prepare_kernel(invocation, options)
            prepare_modules(terminal, kernel)
            terminal.print(f"{letter}            {kernel.describe()}")
        terminal.print(f"accelerator  {choice.describe()}", f"guests       {number} at a time")
        extra = (
            f"--accel={accel.value}",
            f"--guests={number}",
            *(("-k", select) if select else ()),
        )
        runs_of: list[Sequence[TestResult]] = []
        try:
            _run_suites(invocation, sides, extra, runs_of)
        finally:
            if len(runs_of) == 1:
                number_of = len(runs_of[0])
                terminal.note(
                    f"nothing is compared: there are the results of {number_of} tests on A alone, "
                    "which `klp-harness behaviours` shows"
                )
        results = compare_rules(*runs_of)
        invocation.results += results
        _print(terminal, results)
        if costs:
            invocation.more["costs"] = changes = _compare_costs(invocation, sides)
            _print_costs(terminal, changes)
    return invocation.exit_code


def _run_suites(
    invocation: Invocation,
    sides: Sequence[CleanKernel],
    extra: Sequence[str],
    found: list[Sequence[TestResult]],
) -> None:
    """Run the suite on each kernel as a command of its own; its logs stay when one fails."""
    folder = runs.make_folder("compare")
    invocation.terminal.note(f"the output of the runs is in {folder}")
    with ChildCommands(folder, runs=1, deadline=Deadline.after(_SUITES_S)) as commands:
        for letter, kernel, options in zip("AB", invocation.kernels, sides, strict=True):
            words = (*options.as_arguments(), *extra)
            found.append(_suite(invocation.terminal, letter, kernel, words, commands))
    shutil.rmtree(folder, ignore_errors=True)


def _suite(
    terminal: Terminal,
    letter: str,
    kernel: Kernel,
    arguments: Sequence[str],
    commands: ChildCommands,
) -> Sequence[TestResult]:
    name = f"suite-{letter}"
    done = commands.run(Command(lane=Lane.RUN, name=name, arguments=("test", *arguments)))
    report = done.report
    results = [each for each in report.results if isinstance(each, TestResult)] if report else []
    if report is None or report.error is not None or not results:
        reason = f": {report.error.message}" if report and report.error else ""
        raise HarnessError(
            f"the suite did not run on {letter} ({kernel.spec}){reason}",
            hint=f"its output is in {done.log}",
        )
    if report.kernel is None or report.kernel.digest != kernel.digest:
        raise UsageError(
            f"the sources of {letter} ({kernel.spec}) were changed before its tests ran",
            hint="run the command again",
        )
    number = f"{len(results)} {'test' if len(results) == 1 else 'tests'}"
    terminal.print(f"{letter}: {number} in {done.seconds:.0f} s")
    return results


def _require_translation(choice: AccelChoice) -> None:
    # Imported when it is used: other comparisons do not pay for it.
    from harness.observer.watch import require_translation

    require_translation(choice, "--costs")


def _compare_costs(invocation: Invocation, sides: Sequence[CleanKernel]) -> tuple[CostChange, ...]:
    """Measure the costs of each kernel as a command of its own; return what differs."""
    from harness.observer.cost_changes import compare_costs

    folder = runs.make_folder("compare-costs")
    found: list[list[CostResult]] = []
    with ChildCommands(folder, runs=1, deadline=Deadline.after(_SUITES_S)) as commands:
        for letter, options in zip("AB", sides, strict=True):
            words = ("costs", "--quick", "--accel=tcg", *options.as_arguments())
            done = commands.run(Command(lane=Lane.RUN, name=f"costs-{letter}", arguments=words))
            report = done.report
            if report is None or report.error is not None or not report.results:
                reason = f": {report.error.message}" if report and report.error else ""
                raise HarnessError(
                    f"the costs of {letter} ({options.spec}) were not measured{reason}",
                    hint=f"the output is in {done.log}",
                )
            found.append([each for each in report.results if isinstance(each, CostResult)])
            invocation.terminal.print(f"{letter}: costs in {done.seconds:.0f} s")
    shutil.rmtree(folder, ignore_errors=True)
    before, after = found
    return compare_costs(before, after)


def _print_costs(terminal: Terminal, changes: Sequence[CostChange]) -> None:
    """Print the costs that differ. They are no verdict: a rule may need what it costs."""
    for change in changes:
        terminal.print(
            f"{change.share:+7.0%}  {change.what}: {change.before:,.0f} -> {change.after:,.0f}"
        )
    number = f"{len(changes)} {'figure' if len(changes) == 1 else 'figures'}"
    terminal.print(f"costs: {number} of B differ from A by more than 5 %")


def _print(terminal: Terminal, results: Sequence[CompareResult]) -> None:
    for change in _SHOWN:
        for result in results:
            if result.change is not change:
                continue
            terminal.print(f"{change.value:6} {result.id}  {result.before} -> {result.after}")
            for name in result.tests:
                terminal.print(f"       {name}")
            if change is Change.WORSE and result.detail:
                terminal.print(f"       {reason_of(result.detail)}")
    counts = ", ".join(
        f"{sum(result.change is change for result in results)} {change.value}" for change in Change
    )
    terminal.print(f"{len(results)} {'rule' if len(results) == 1 else 'rules'}: {counts}")
