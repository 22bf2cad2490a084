# SPDX-License-Identifier: GPL-2.0-only
"""Results as KTAP, version 1, which kernel CI reads (Documentation/dev-tools/ktap.rst)."""

from __future__ import annotations

import re
from enum import StrEnum
from itertools import groupby
from typing import TYPE_CHECKING

from harness.report.base import CheckOutcome

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from harness.report.base import BaseReport, ResultBase

_INDENT = "  "
_MOST_LINES = 200
_NOT_IN_A_NAME = re.compile(r"[#\x00-\x1f\x7f]+")
_NOT_IN_A_LINE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


class _Kind(StrEnum):
    """The first words of a result line, and the directive behind its name."""

    OK = "ok"
    NOT_OK = "not ok"
    SKIP = "ok SKIP"
    XFAIL = "ok XFAIL"
    ERROR = "not ok ERROR"

    @property
    def result(self) -> str:
        return "not ok" if self.value.startswith("not ok") else "ok"

    @property
    def directive(self) -> str:
        return self.value.removeprefix(self.result).strip()


_KINDS = {
    CheckOutcome.FAILED: _Kind.NOT_OK,
    CheckOutcome.SURVIVED: _Kind.NOT_OK,
    CheckOutcome.SHOWN: _Kind.NOT_OK,
    CheckOutcome.ERROR: _Kind.ERROR,
    CheckOutcome.DOES_NOT_APPLY: _Kind.ERROR,
    CheckOutcome.DOES_NOT_BUILD: _Kind.ERROR,
    CheckOutcome.DOES_NOT_BOOT: _Kind.ERROR,
    CheckOutcome.DOES_NOT_LOAD: _Kind.ERROR,
    CheckOutcome.SKIPPED: _Kind.SKIP,
    CheckOutcome.NOT_APPLICABLE: _Kind.SKIP,
    CheckOutcome.NOT_RUN: _Kind.SKIP,
    CheckOutcome.EXPECTED_FAILURE: _Kind.XFAIL,
}


def to_ktap(report: BaseReport) -> str:
    """Return a report as a KTAP document.

    The tests of one file and the cases of one script are subtests of it. A command that failed by
    itself is a test named ``command``, so that a reader never takes half a run for a whole one.
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
        kinds = [_kind(result) for result in results]
        failed = any(kind.result == "not ok" for kind in kinds)
        skipped = all(kind is _Kind.SKIP for kind in kinds)
        lines.append(
            f"{'not ok' if failed else 'ok'} {number} {_name(name)}{' # SKIP' if skipped else ''}"
        )
    if report.error is not None:
        number += 1
        lines += [f"# {line}" for line in _told("\n".join(report.error.details))]
        lines.append(f"not ok {number} command # ERROR {_one_line(report.error.message)}")
    return "\n".join(["KTAP version 1", *_facts(report), f"1..{number}", *lines]) + "\n"


def _facts(report: BaseReport) -> Iterator[str]:
    yield f"# klp-harness {report.harness}, {report.command}"
    for kernel in report.kernels:
        yield f"# kernel {kernel.version} ({_one_line(kernel.source)})"
    if report.accelerator is not None:
        yield f"# accelerator {report.accelerator}"


def _grouped(results: Sequence[ResultBase]) -> list[ResultBase]:
    """Return the results with those of one group together: tests end in any order."""
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
    kind = _kind(result)
    # "Skipped:" is pytest's own word; the directive has said it.
    said = _told(result.words()[1].removeprefix("Skipped: "))
    if kind.result == "not ok":
        yield from (f"# {line}" for line in said)
    # One line behind the "#"; what a failure says has its own lines, before.
    reason = f" {said[0]}" if said and kind in (_Kind.SKIP, _Kind.XFAIL, _Kind.ERROR) else ""
    directive = f" # {kind.directive}{reason}" if kind.directive else ""
    yield f"{kind.result} {number} {_name(name)}{directive}"


def _kind(result: ResultBase) -> _Kind:
    kind = _KINDS.get(result.outcome, _Kind.OK)
    return _Kind.XFAIL if kind is _Kind.NOT_OK and result.is_excused else kind


def _told(text: str) -> list[str]:
    """Return what a test said in lines that a parser takes for nothing else."""
    lines = [_NOT_IN_A_LINE.sub("?", line).rstrip() for line in text.splitlines()]
    lines = [line for line in lines if line]
    left_out = len(lines) - _MOST_LINES
    return lines if left_out <= 0 else [*lines[:_MOST_LINES], f"({left_out} more lines)"]


def _name(text: str) -> str:
    return _NOT_IN_A_NAME.sub("_", text).strip() or "unnamed"


def _one_line(text: str) -> str:
    return " ".join(_told(text))
