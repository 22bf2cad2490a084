# SPDX-License-Identifier: GPL-2.0-only
"""klp-harness coverage: the coverage of earlier runs, added, compared, and checked for luck."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.behaviours.mutants import series_of
from harness.cli.coverage import (
    CoverageOptions,
    Lcov,
    Page,
    print_coverage,
    write_coverage,
)
from harness.cli.exits import guarded
from harness.cli.invocation import check_writable
from harness.errors import ExitCode, UsageError
from harness.observer.coverage import read_coverage
from harness.observer.coverage_sums import by_luck, difference, merge
from harness.observer.coverage_text import difference_text, luck_text, share
from harness.observer.unreached import compare, compare_branches, read_unreached
from harness.report.terminal import Terminal
from harness.resources import Resource, resource_dir

if TYPE_CHECKING:
    from harness.observer.coverage import Coverage

app = typer.Typer(
    help="Show, add and compare what `test --coverage --coverage-file` has written.",
    no_args_is_help=True,
)

Files = Annotated[tuple[Path, ...], typer.Argument(metavar="FILE", help="Files of coverage.")]


@app.command("show")
@guarded
def show(files: Files, *, html: Page = None, lcov: Lcov = None) -> int:
    """Print the coverage of runs on one kernel, added up, or write it as a page or a tracefile."""
    check_writable(html, lcov)
    coverage = merge(_read(files, at_least=1))
    print_coverage(Terminal(), coverage)
    write_coverage(coverage, CoverageOptions(html=html, lcov=lcov))
    return ExitCode.HELD


@app.command("diff")
@guarded
def diff(
    first: Annotated[Path, typer.Argument(metavar="A", help="A file of coverage.")],
    second: Annotated[Path, typer.Argument(metavar="B", help="Another one.")],
) -> int:
    """Print which lines ran in one of two runs and not in the other.

    The exit code is 0 either way.
    """
    one, other = read_coverage(first), read_coverage(second)
    lines = difference_text(difference(one, other), one, (first.name, second.name))
    Terminal().print(*lines)
    return ExitCode.HELD


@app.command("luck")
@guarded
def luck(files: Files) -> int:
    """Print the lines that some of several runs of the same tests reached, and others did not.

    Whether a test reaches such a line depends on the time of things, and so does what it notices
    there. The exit code is 0 either way.
    """
    runs = _read(files, at_least=2)
    Terminal().print(*luck_text(by_luck(runs), runs))
    return ExitCode.HELD


@app.command("check")
@guarded
def check(
    files: Files,
    *,
    unreached: Annotated[
        Path | None,
        typer.Option(
            "--unreached",
            metavar="FILE",
            help="The list of lines that need not run, with reasons. Default: that of the suite, "
            "which is for 6.1 and 7.2.",
            show_default=False,
        ),
    ] = None,
) -> int:
    """Check that each line that did not run, or that branches one way, is on a list with a reason.

    The exit code is 1 when a line is not. A listed line that ran is named: some are reached in some
    runs only. The files are added up.
    """
    path = unreached or resource_dir(Resource.BEHAVIOUR_TESTS) / "unreached.toml"
    coverage = merge(_read(files, at_least=1))
    listed = read_unreached(path).of(series_of(coverage.kernel.partition(" ")[0]))
    found = compare(coverage, listed.line)
    branches = compare_branches(coverage, listed.branch)
    terminal = Terminal()
    texts = {file.name: file.text for file in coverage.files}
    for place, what in (
        *((place, "did not run, and is not listed") for place in found.unexplained),
        *((place, "is listed, and ran") for place in found.reached),
        *((place, "went one way, and is not listed") for place in branches.unexplained),
    ):
        terminal.print(f"{place[0]}:{place[1]} {what}: {texts[place[0]][place[1] - 1].strip()}")
    for each in found.unknown:
        terminal.print(f"{each.file} has no code of the listed line: {each.text}")
    for branch in branches.reached:
        terminal.print(f"{branch.file}: listed, and both ways were taken: {branch.text}")
    for branch in branches.unknown:
        terminal.print(f"{branch.file} has no branch of the listed line: {branch.text}")
    terminal.print(
        f"{len(coverage.lines_run())} of {len(coverage.lines())} lines ran; "
        f"{len(found.unexplained)} of the others are not listed"
    )
    possible = branches.known - branches.warns - branches.cannot
    terminal.print(
        f"{branches.taken} of {branches.known} sides of branches were taken; {branches.warns} lead "
        f"into a WARN, {branches.cannot} cannot be taken: {share(branches.taken, possible).strip()}"
    )
    terminal.print(
        f"{len(branches.unexplained)} lines with branches that go one way are not listed"
    )
    is_listed = not found.unexplained and not branches.unexplained
    return ExitCode.HELD if is_listed else ExitCode.VERDICT


def _read(files: tuple[Path, ...], *, at_least: int) -> list[Coverage]:
    if len(files) < at_least:
        raise UsageError(f"this needs {at_least} files of coverage or more")
    return [read_coverage(path) for path in files]
