# SPDX-License-Identifier: GPL-2.0-only
"""klp-harness compare: the behaviour suite on two kernels, and which rules differ."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.guard import guarded
from harness.cli.invocation import Invocation
from harness.cli.options import (
    AccelAsked,
    AccelOption,
    JsonFile,
    JunitFile,
    KernelConfig,
    KtapFile,
    Sha256,
)
from harness.cli.prepare import (
    KernelAsked,
    describe_accel,
    prepare_accel,
    prepare_kernel,
    prepare_modules,
)
from harness.compare.rules import compare_rules
from harness.deadline import Deadline
from harness.errors import HarnessError, UsageError
from harness.host.capacity import default_guests, measure_host
from harness.mutation.jobs import Command, Done, Lane, run_all
from harness.report.compare import Change, CompareResult
from harness.report.reason import reason_of
from harness.report.results import TestResult
from harness.resources import runs_root

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from harness.report.terminal import Terminal

_SUITES_S = 2 * 3600.0
_SHOWN = (Change.WORSE, Change.OTHER, Change.BETTER)


@guarded
def compare(
    first: Annotated[str, typer.Argument(metavar="A", help="The kernel to compare with.")],
    second: Annotated[
        str | None, typer.Argument(metavar="[B]", help="The other one; default: A with --series.")
    ] = None,
    series: Annotated[
        list[Path] | None,
        typer.Option(
            "--series",
            metavar="FILE",
            help="Patches of the second kernel's sources: a mailbox or a diff. Repeatable.",
        ),
    ] = None,
    select: Annotated[
        str | None,
        typer.Option("-k", metavar="EXPR", help="Run these tests alone, as pytest selects them."),
    ] = None,
    kernel_config: KernelConfig = None,
    sha256: Sha256 = None,
    accel: AccelOption = AccelAsked.AUTO,
    guests: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Guests at a time.")
    ] = None,
    json_file: JsonFile = None,
    junit_file: JunitFile = None,
    ktap_file: KtapFile = None,
) -> int:
    """Run the behaviour suite on A and on B, and tell the rules that changed.

    Exit code 1: a rule that holds on A fails on B.
    """
    with Invocation(
        "compare", json_file=json_file, junit_file=junit_file, ktap_file=ktap_file
    ) as invocation:
        if second is None and not series:
            raise UsageError(
                f"{first} is compared with nothing",
                hint="name a second kernel, or give patches with --series FILE",
            )
        terminal = invocation.terminal
        choice = prepare_accel(invocation, accel)
        number = guests or default_guests(measure_host(), choice.accel)
        fragments = tuple(kernel_config or ())
        sides = (
            KernelAsked(spec=first, sha256=sha256, fragments=fragments),
            KernelAsked(
                spec=second or first,
                sha256=sha256 if second is None else None,
                fragments=fragments,
                patches=tuple(series or ()),
            ),
        )
        for letter, asked in zip("AB", sides, strict=True):
            made = prepare_kernel(invocation, asked)
            prepare_modules(terminal, made)
            patched = f", with {len(asked.patches)} patch files" if asked.patches else ""
            terminal.print(f"{letter}            {made.describe()}{patched}")
        terminal.print(f"accelerator  {describe_accel(choice)}", f"guests       {number} at a time")
        extra = (
            f"--accel={accel.value}",
            f"--guests={number}",
            *(("-k", select) if select else ()),
        )
        before, after = _run_suites(terminal, sides, extra)
        results = compare_rules(before, after)
        invocation.results += results
        _tell(terminal, results)
    return invocation.exit_code


def _run_suites(
    terminal: Terminal, sides: Sequence[KernelAsked], extra: Sequence[str]
) -> tuple[Sequence[TestResult], ...]:
    """Run the suite on each kernel as a command of its own; its logs stay when one fails."""
    folder = runs_root() / f"{time.strftime('%Y%m%d-%H%M%S')}-compare-{os.getpid()}"
    folder.mkdir(parents=True, mode=0o700)
    terminal.note(f"what the runs print goes to {folder}")
    # So that the guests of a child die with it when this process is killed.
    environment = {**os.environ, "KLP_HARNESS_DIE_WITH_PARENT": "1"}
    tasks = [
        _suite(terminal, letter, asked, extra) for letter, asked in zip("AB", sides, strict=True)
    ]
    done = dict(
        run_all(tasks, folder, runs=1, deadline=Deadline.after(_SUITES_S), environment=environment)
    )
    shutil.rmtree(folder, ignore_errors=True)
    return tuple(done[letter] for letter in "AB")


def _suite(
    terminal: Terminal, letter: str, asked: KernelAsked, extra: Sequence[str]
) -> Generator[Command, Done, tuple[str, Sequence[TestResult]]]:
    done = yield Command(
        lane=Lane.RUN,
        name=f"suite-{letter}",
        arguments=("test", *_options(asked), *extra),
    )
    report = done.report
    results = (
        [result for result in report.results if isinstance(result, TestResult)] if report else []
    )
    if report is None or report.error is not None or not results:
        said = report.error.message if report is not None and report.error is not None else ""
        raise HarnessError(
            f"the suite did not run on {letter} ({asked.spec})" + (f": {said}" if said else ""),
            hint=f"what it printed is in {done.log}",
        )
    terminal.print(f"{letter}: {len(results)} tests in {done.seconds:.0f} s")
    return letter, results


def _options(asked: KernelAsked) -> list[str]:
    return [
        f"--kernel={asked.spec}",
        *(f"--kernel-config={name}" for name in asked.fragments),
        *(f"--patch={path.absolute()}" for path in asked.patches),
        *([f"--sha256={asked.sha256}"] if asked.sha256 is not None else []),
    ]


def _tell(terminal: Terminal, results: Sequence[CompareResult]) -> None:
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
    terminal.print(f"{len(results)} rules: {counts}")
