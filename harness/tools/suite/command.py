# SPDX-License-Identifier: GPL-2.0-only
"""klp-harness test: the behaviour suite on a kernel, in as many guests as the machine overlaps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.coverage import CoverageOptions
from harness.cli.exits import guarded
from harness.cli.invocation import Invocation, write_file
from harness.cli.keeping import KeepOptions, keeping
from harness.cli.options import Accel, AccelAsked, Guests, KernelsOptions, ResultFiles, Smp
from harness.errors import UsageError
from harness.report.base import CheckOutcome
from harness.report.junit import to_junit
from harness.resources import Resource, resource_dir
from harness.tools.suite.bisect import in_bisect, try_kernels
from harness.tools.suite.pytest_words import (
    WITHOUT_GUESTS,
    PytestArguments,
    checkout,
    words_for_pytest,
)
from harness.tools.suite.run_suite import SuiteOptions, run_suite

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.report.suite_results import TestResult
    from harness.report.terminal import Terminal
_LONG = "long"


@guarded
def run_tests(
    context: typer.Context,
    arguments: PytestArguments = (),
    *,
    kernels: KernelsOptions,
    files: ResultFiles,
    accel: Accel = AccelAsked.AUTO,
    smp: Smp = 2,
    guests: Guests = None,
    coverage: CoverageOptions,
    everything: Annotated[
        bool,
        typer.Option(
            "--all",
            help="Also run the harness's own tests that start guests; needs a checkout.",
        ),
    ] = False,
    bisect: Annotated[
        bool,
        typer.Option(
            "--bisect",
            help="Use the exit codes of `git bisect run`: 125 when this kernel cannot be built or "
            "booted, 255 when the bisection has to stop.",
        ),
    ] = False,
    keep: KeepOptions,
) -> int:
    """Test whether a kernel keeps the rules of live patching: each test runs in a fresh guest.

    The kernel is 6.1 unless --kernel names others. What is not an option of this command is passed
    to pytest.
    """
    coverage.check()
    options = SuiteOptions(
        kernels=kernels.each(),
        accel=accel,
        smp=smp,
        guests=guests,
        coverage=coverage if coverage.observes else None,
    )
    if keep.is_asked and guests not in (None, 1):
        raise UsageError(
            f"a guest can be kept of a run with one guest at a time, and --guests is {guests}"
        )

    def work() -> int:
        with keeping(keep) as keeper:
            return run(replace(options, keeper=keeper))

    def run(options: SuiteOptions) -> int:
        # pytest writes its own JUnit file, which has more than ours could.
        with Invocation("test", replace(files, junit=None)) as invocation:
            is_written = False

            def finish(partial: bool) -> None:
                # An older file is not left there, nor none, where pytest did not finish its own.
                if partial and not is_written and files.junit is not None:
                    write_file(Path(files.junit), to_junit(invocation.report()))

            invocation.at_end(finish)
            words = words_for_pytest(arguments, context)
            folders = _folders_with_guests() if everything else []
            ran = run_suite(invocation, options, words, folders=folders, junit=files.junit)
            is_written = ran.interrupt is None or Path(files.junit or "").is_file()
            invocation.results += ran.results
            _print_skipped(invocation.terminal, ran.results)
            if ran.covered is not None:
                ran.covered.finish(partial=ran.interrupt is not None)
            if ran.interrupt is not None:
                raise ran.interrupt
            invocation.exit_code = ran.exit_code
            return invocation.exit_code

    return in_bisect(lambda: try_kernels(options), work) if bisect else work()


def _print_skipped(terminal: Terminal, results: Sequence[TestResult]) -> None:
    """Name the tests that do not apply to this kernel, by their reasons."""
    reasons: dict[str, list[str]] = {}
    for result in results:
        if result.outcome is CheckOutcome.SKIPPED:
            reason = (result.detail or "no reason given").removeprefix("Skipped: ")
            reasons.setdefault(reason, []).append(result.id.rpartition("/")[2])
    for reason, names in reasons.items():
        terminal.print(f"not applicable: {reason}", *(f"    {name}" for name in names))


def _folders_with_guests() -> list[Path]:
    """Return the folders of a checkout's tests that start guests; raises UsageError without one."""
    root = checkout(resource_dir(Resource.BEHAVIOUR_TESTS))
    if root is None:
        raise UsageError("--all needs a checkout: the harness's own tests are not installed")
    # The long ones are for make test-long, and the others for make check: thousands of tests, which
    # each worker would have to collect.
    left_out = (*WITHOUT_GUESTS, _LONG)
    folders = [folder for folder in (root / "tests").iterdir() if folder.name not in left_out]
    return sorted(folder for folder in folders if any(folder.rglob("test_*.py")))
