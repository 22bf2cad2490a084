# SPDX-License-Identifier: GPL-2.0-only
"""The report of ``klp-harness costs``."""

from __future__ import annotations

from typing import Literal

from harness.observer.cost_results import CostResult
from harness.report.base import BaseReport


class CostsReport(BaseReport):
    """``klp-harness costs``: one result for each figure of each kernel."""

    command: Literal["costs"] = "costs"
    results: tuple[CostResult, ...] = ()
