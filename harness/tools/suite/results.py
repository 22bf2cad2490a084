# SPDX-License-Identifier: GPL-2.0-only
"""The reports of ``klp-harness test``, ``behaviours``, ``matrix`` and ``compare``."""

from __future__ import annotations

from typing import Literal

from harness.behaviours.results import BehaviourResult, CompareResult
from harness.observer.cost_results import CostChange
from harness.report.base import BaseReport
from harness.report.suite_results import TestReport

__all__ = ["BehaviourReport", "CompareReport", "TestReport"]


class BehaviourReport(BaseReport):
    """``klp-harness behaviours`` and ``matrix``: one result for each rule."""

    command: Literal["behaviours", "matrix"]
    results: tuple[BehaviourResult, ...] = ()


class CompareReport(BaseReport):
    """``klp-harness compare``: one result for each rule; ``kernels`` are both, in their order.

    ``costs`` are the figures that differ, with ``--costs``.
    """

    command: Literal["compare"] = "compare"
    costs: tuple[CostChange, ...] = ()
    results: tuple[CompareResult, ...] = ()
