# SPDX-License-Identifier: GPL-2.0-only
"""klp-harness test: the behaviour suite on a kernel, in as many guests as the machine overlaps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.exits import guarded
from harness.cli.invocation import Invocation
from harness.cli.options import Accel, AccelAsked, Guests, KernelsOptions, ResultFiles, Smp
from harness.errors import UsageError
from harness.report.base import CheckOutcome
from harness.resources import Resource, resource_dir
from harness.tools.suite.bisect import in_bisect, try_kernels
from harness.tools.suite.run_suite import SuiteAsked, checkout, run_suite

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.report.suite_results import TestResult
    from harness.report.terminal import Terminal

# pytest options whose value is the next word, which then is not a path.
_TAKES_VALUE = frozenset(
    {"-k", "-m", "-p", "-o", "-c", "-r", "-W", "-n", "--durations", "--maxfail", "--tb", "--fresh"}
)


@guarded
def run_tests(
    arguments: Annotated[
        tuple[str, ...],
        typer.Argument(
            metavar="PYTEST_ARG", help="Handed to pytest: test files, -k, -x, --fresh=boot."
        ),
    ] = (),
    *,
    kernels: KernelsOptions,
    files: ResultFiles,
    accel: Accel = AccelAsked.AUTO,
    smp: Smp = 2,
    guests: Guests = None,
    everything: Annotated[
        bool,
        typer.Option(
            "--all",
            help="In a checkout: also the harness's own tests with guests (all of tests/ but "
            "tests/unit).",
        ),
    ] = False,
    bisect: Annotated[
        bool,
        typer.Option(
            "--bisect",
            help="Exit as `git bisect run` wants it: 125 when this kernel cannot be built or "
            "booted, 255 when nothing can be said of it.",
        ),
    ] = False,
) -> int:
    """Run the behaviour suite: every rule on a fresh guest.

    What is not an option of this command goes to pytest as it is.
    """
    words = list(arguments)
    asked = SuiteAsked(kernels=kernels.each(), accel=accel, smp=smp, guests=guests)

    def work() -> int:
        with Invocation("test", replace(files, junit=None)) as invocation:
            suite = resource_dir(Resource.BEHAVIOUR_TESTS)
            paths = _test_paths(words, suite, everything=everything)
            junit = [f"--junit-xml={files.junit}"] if files.junit is not None else []
            ran = run_suite(invocation, asked, [*junit, *words, *paths])
            invocation.results += ran.results
            _print_skipped(invocation.terminal, ran.results)
            invocation.exit_code = ran.exit_code
            return invocation.exit_code

    return in_bisect(lambda: try_kernels(asked), work) if bisect else work()


def _print_skipped(terminal: Terminal, results: Sequence[TestResult]) -> None:
    """Name the tests that do not apply to this kernel, by their reasons."""
    reasons: dict[str, list[str]] = {}
    for result in results:
        if result.outcome is CheckOutcome.SKIPPED:
            reason = (result.detail or "no reason given").removeprefix("Skipped: ")
            reasons.setdefault(reason, []).append(result.id.rpartition("/")[2])
    for reason, names in reasons.items():
        terminal.print(f"not applicable: {reason}", *(f"    {name}" for name in names))


def _test_paths(words: Sequence[str], folder: Path, *, everything: bool) -> list[str]:
    """Return the paths to run beside those among the words: none when the words have some."""
    if everything:
        root = checkout(folder)
        if root is None:
            raise UsageError(
                "--all needs a checkout: the harness's own tests are not installed with it"
            )
        # tests/unit is for make check: thousands of tests, which each worker would have to collect.
        return sorted(str(found) for found in (root / "tests").iterdir() if _has_guest_tests(found))
    return [] if _names_tests(words, folder) else [str(folder)]


def _has_guest_tests(folder: Path) -> bool:
    return folder.name != "unit" and any(folder.rglob("test_*.py"))


def _names_tests(words: Sequence[str], folder: Path) -> bool:
    """Tell whether some word is a test or a path; raises UsageError for one that is missing."""
    found = False
    for before, word in zip(("", *words), words, strict=False):
        if word.startswith("-") or before in _TAKES_VALUE:
            continue
        path = Path(word.partition("::")[0])
        if not path.exists():
            raise UsageError(
                f"there is no test file {path}", hint=f"the behaviour suite is in {folder}"
            )
        found = True
    return found
