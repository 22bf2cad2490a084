# SPDX-License-Identifier: GPL-2.0-only
"""The report of ``klp-harness run`` and ``demo``."""

from __future__ import annotations

from typing import Literal

from harness.report.base import BaseReport
from harness.report.run_results import RunResult


class RunReport(BaseReport):
    """``klp-harness run`` and ``demo``: one result for each module."""

    command: Literal["run", "demo"]
    results: tuple[RunResult, ...] = ()
