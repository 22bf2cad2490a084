# SPDX-License-Identifier: GPL-2.0-only
"""Reports as KTAP, version 1, which kernel CI reads (Documentation/dev-tools/ktap.rst)."""

from __future__ import annotations

import re
from itertools import groupby
from typing import TYPE_CHECKING

from harness.report.base import CiOutcome

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from harness.report.base import BaseReport, ResultBase

_INDENT = "  "
_MOST_LINES = 200
_NOT_IN_A_NAME = re.compile("[#\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")
_NOT_IN_A_LINE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


# The words before the number of a result line, and the directive after its name.
_WORDS = {
    CiOutcome.PASSED: ("ok", ""),
    CiOutcome.FAILED: ("not ok", ""),
    CiOutcome.SKIPPED: ("ok", "SKIP"),
    CiOutcome.EXCUSED: ("ok", "XFAIL"),
    CiOutcome.ERROR: ("not ok", "ERROR"),
}


def to_ktap(report: BaseReport) -> str:
    """Return a report as a KTAP document.

    The tests of a file and the cases of a script are subtests of it. When the command itself failed
    there is a failed test named ``command``, so that nobody takes a part of a run for all of it.
    """
    groups = [
        (name, list(results))
        for name, results in groupby(_grouped(report.results), key=lambda result: result.group)
    ]
    lines: list[str] = []
    number = 0
    for name, results in groups:
        if name is None:
            for result in results:
                number += 1
                lines += _result(number, result.id, result)
            continue
        number += 1
        lines += [f"{_INDENT}{line}" for line in _subtests(name, results)]
        kinds = {result.ci_outcome for result in results}
        begin = "not ok" if kinds & {CiOutcome.FAILED, CiOutcome.ERROR} else "ok"
        skip = " # SKIP" if kinds == {CiOutcome.SKIPPED} else ""
        lines.append(f"{begin} {number} {_name(name)}{skip}")
    if report.error is not None or report.partial:
        number += 1
        details = report.error.details if report.error is not None else ()
        why = report.error.message if report.error is not None else "results are missing"
        lines += [f"# {line}" for line in _printable("\n".join(details))]
        lines.append(f"not ok {number} command # ERROR {_one_line(why)}")
    return "\n".join(["KTAP version 1", *_facts(report), f"1..{number}", *lines]) + "\n"


def _facts(report: BaseReport) -> Iterator[str]:
    yield f"# klp-harness {_one_line(report.harness)}, {report.command}"
    if report.partial:
        yield "# partial: the command did not finish, and results are missing"
    for kernel in report.kernels:
        yield f"# kernel {_one_line(kernel.version)} ({_one_line(kernel.source)})"
    if report.accelerator is not None:
        yield f"# accelerator {report.accelerator}"


def _grouped(results: Sequence[ResultBase]) -> list[ResultBase]:
    """Return the results by groups: the tests of several files end in any order."""
    first: dict[str | None, int] = {}
    for number, result in enumerate(results):
        first.setdefault(result.group, number)
    return sorted(results, key=lambda result: first[result.group])


def _subtests(group: str, results: Sequence[ResultBase]) -> Iterator[str]:
    yield "KTAP version 1"
    yield f"1..{len(results)}"
    for number, result in enumerate(results, start=1):
        inner = result.id.removeprefix(f"{group}::").removeprefix(f"{group.removesuffix('.sh')}/")
        yield from _result(number, inner, result)


def _result(number: int, name: str, result: ResultBase) -> Iterator[str]:
    begin, directive = _WORDS[result.ci_outcome]
    # "Skipped:" is pytest's word for what the directive says.
    lines = _printable(result.words()[1].removeprefix("Skipped: "))
    if begin == "not ok":
        yield from (f"# {line}" for line in lines)
    # A directive has one line; the whole text of a failure is in the lines before.
    reason = f" {lines[0]}" if lines and directive else ""
    yield f"{begin} {number} {_name(name)}" + (f" # {directive}{reason}" if directive else "")


def _printable(text: str) -> list[str]:
    """Return a text in lines without control characters, 200 at most."""
    lines = [_NOT_IN_A_LINE.sub("?", line).rstrip() for line in text.splitlines()]
    lines = [line for line in lines if line]
    left_out = len(lines) - _MOST_LINES
    return lines if left_out <= 0 else [*lines[:_MOST_LINES], f"({left_out} more lines)"]


def _name(text: str) -> str:
    return _NOT_IN_A_NAME.sub("_", text).strip() or "unnamed"


def _one_line(text: str) -> str:
    return " ".join(_printable(text))
