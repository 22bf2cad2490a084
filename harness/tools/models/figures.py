# SPDX-License-Identifier: GPL-2.0-only
"""Figures as people read them. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.report.base import CheckOutcome
from harness.tools.models.findings import NOT_TRIED
from harness.tools.models.rows import Unit

if TYPE_CHECKING:
    from harness.tools.models.results import ComparedResult

_MS = 1e-3


def seconds(value: float) -> str:
    """Return a time with about three digits: ``0.4 ms``, ``12 ms``, ``1.23 s``."""
    if value < 10 * _MS:
        return f"{value / _MS:.1f} ms"
    if value < 1:
        return f"{value / _MS:.0f} ms"
    return f"{value:.2f} s" if value < 10 else f"{value:.1f} s"


def amount(value: float, unit: str) -> str:
    """Return a value of a row in its unit."""
    return seconds(value) if unit == Unit.SECONDS else f"{value:.0f}"


def cell(result: ComparedResult) -> str:
    """Return what a table shows of a result: a figure, its spread, words, or never."""
    text, between = parts(result)
    return f"{text} ({between})" if between else text


def parts(result: ComparedResult) -> tuple[str, str]:
    """Return the text of `cell` in two parts; the second is the spread, where there is one."""
    if result.outcome not in (CheckOutcome.PASSED, CheckOutcome.FAILED):
        return result.outcome.value, ""
    if result.never is not None:
        return ("never" if was_tried(result) else NOT_TRIED), ""
    text = between = ""
    if result.median is not None:
        text = amount(result.median, result.unit)
        low, high = (amount(each, result.unit) for each in spread(result))
        between = f"{low} to {high}" if low != high else ""
    elif result.says is not None:
        text = result.says.partition(":")[0]
    if result.outcome is CheckOutcome.FAILED:
        return (f"{text}, failed" if text else "failed"), between
    return text, between


def was_tried(result: ComparedResult) -> bool:
    """Return whether a row was measured, and not left out since it would not end either."""
    return result.never is None or not result.never.startswith(NOT_TRIED)


def spread(result: ComparedResult) -> tuple[float, float]:
    """Return the least and the largest value; raises ValueError when there is none."""
    return min(result.values), max(result.values)
