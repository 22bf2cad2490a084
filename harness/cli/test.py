# SPDX-License-Identifier: GPL-2.0-only
"""klp-harness test: the behaviour suite on a kernel, in as many guests as the machine overlaps."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.bisect import in_bisect, try_kernels
from harness.cli.guard import guarded
from harness.cli.invocation import Invocation
from harness.cli.options import (
    DEFAULT_KERNEL,
    AccelAsked,
    AccelOption,
    JsonFile,
    JunitFile,
    KernelConfig,
    KernelPatches,
    KernelSpecs,
    KtapFile,
    Sha256,
    Smp,
)
from harness.cli.suite import SuiteAsked, checkout, run_suite
from harness.errors import UsageError
from harness.report.results import CheckOutcome
from harness.resources import Resource, resource_dir

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.report.results import TestResult
    from harness.report.terminal import Terminal

# pytest options whose value is the next word, which then is not a path.
_TAKES_VALUE = frozenset(
    {"-k", "-m", "-p", "-o", "-c", "-r", "-W", "-n", "--durations", "--maxfail", "--tb", "--fresh"}
)


@guarded
def run_tests(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="PYTEST_ARG", help="Handed to pytest: test files, -k, -x, --fresh=boot."
        ),
    ] = None,
    kernel: KernelSpecs = None,
    kernel_config: KernelConfig = None,
    patch: KernelPatches = None,
    sha256: Sha256 = None,
    accel: AccelOption = AccelAsked.AUTO,
    smp: Smp = 2,
    guests: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Guests at a time; default: what the host can take."),
    ] = None,
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
    json_file: JsonFile = None,
    junit_file: JunitFile = None,
    ktap_file: KtapFile = None,
) -> int:
    """Run the behaviour suite: every rule on a fresh guest.

    What is not an option of this command goes to pytest as it is.
    """
    words = list(arguments or ())
    asked = SuiteAsked(
        kernels=kernel or [DEFAULT_KERNEL],
        kernel_config=kernel_config or (),
        patches=patch or (),
        sha256=sha256,
        accel=accel,
        smp=smp,
        guests=guests,
    )

    def work() -> int:
        with Invocation("test", json_file=json_file, ktap_file=ktap_file) as invocation:
            suite = resource_dir(Resource.BEHAVIOUR_TESTS)
            paths = _test_paths(words, suite, everything=everything)
            junit = [f"--junit-xml={junit_file}"] if junit_file is not None else []
            ran = run_suite(invocation, asked, [*junit, *words, *paths])
            invocation.results += ran.results
            _tell_skipped(invocation.terminal, ran.results)
            invocation.exit_code = ran.exit_code
            return invocation.exit_code

    return in_bisect(lambda: try_kernels(asked), work) if bisect else work()


def _tell_skipped(terminal: Terminal, results: Sequence[TestResult]) -> None:
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
