# SPDX-License-Identifier: GPL-2.0-only
"""Results of the benchmarks: one for each figure."""

from __future__ import annotations

from typing import Literal

from harness.report.base import BaseReport, Model, ResultBase


class BenchSide(Model):
    """One side of a ratio: the median of its runs."""

    name: str
    value: float
    unit: str
    runs: tuple[float, ...]


class BenchResult(ResultBase):
    """A figure. A ratio has two sides, and its value is the first by the second."""

    what: str
    value: float
    unit: str
    budget: float | None = None
    bound: Literal["at most", "at least"] | None = None
    sides: tuple[BenchSide, ...] = ()


class BenchReport(BaseReport):
    """``make bench``: one result for each figure; ``failed``: its budget is missed."""

    command: Literal["bench"] = "bench"
    results: tuple[BenchResult, ...] = ()
