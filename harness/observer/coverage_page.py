# SPDX-License-Identifier: GPL-2.0-only
"""Coverage as one HTML page with the source: what ran, how often, and in which tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.observer.coverage import sides_of
from harness.report.html import render

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.observer.coverage import BranchCoverage, Coverage, FileCoverage

_NAMED_TESTS = 8


def coverage_page(coverage: Coverage, *, title: str, partial: bool = False) -> str:
    """Return the page; ``partial``: the run did not finish."""
    tests: dict[tuple[str, int], list[str]] = {}
    for test in coverage.tests:
        for name, lines in test.lines.items():
            for line in lines:
                tests.setdefault((name, line), []).append(test.name.rpartition("/")[2])
    return render(
        "coverage_page.html.j2",
        str(__package__),
        title=title,
        coverage=coverage,
        files=[_file(file, tests) for file in coverage.files],
        total=_figures(coverage.files),
        partial=partial,
    )


def _file(file: FileCoverage, tests: Mapping[tuple[str, int], Sequence[str]]) -> dict[str, Any]:
    lines = {line.line: line for line in file.lines}
    branches: dict[int, list[BranchCoverage]] = {}
    for branch in file.branches:
        branches.setdefault(branch.line, []).append(branch)
    rows = []
    for number, text in enumerate(file.text, 1):
        line = lines.get(number)
        state = "" if line is None else "ran" if line.count else "missed"
        if line is not None and line.partly:
            state = "partly"
        notes = [f"never {branch.never}" for branch in branches.get(number, ()) if branch.never]
        rows.append(
            {
                "number": number,
                "text": text.expandtabs(8),
                "state": state,
                "count": "" if line is None else f"{line.count:,}".replace(",", " "),
                "tests": _tests(tests.get((file.name, number), ())) if line is not None else "",
                "branches": "; ".join(dict.fromkeys(notes)),
            }
        )
    return {
        "name": file.name,
        "ident": file.name.replace("/", "-"),
        "rows": rows,
        "missed": [each.name for each in file.functions if not each.count],
        "figures": _figures([file]),
    }


def _tests(names: Sequence[str]) -> str:
    if not names:
        return "no test"
    shown = ", ".join(names[:_NAMED_TESTS])
    more = len(names) - _NAMED_TESTS
    return f"{shown} and {more} more" if more > 0 else shown


def _figures(files: Sequence[FileCoverage]) -> list[dict[str, Any]]:
    sides = sides_of(branch for file in files for branch in file.branches)
    pairs = (
        (sum(file.lines_run for file in files), sum(len(file.lines) for file in files)),
        (sides.taken, sides.known),
        (sum(file.functions_run for file in files), sum(len(file.functions) for file in files)),
    )
    return [
        {"part": part, "whole": whole, "percent": f"{100 * part / whole:.1f}" if whole else "-"}
        for part, whole in pairs
    ]
