# SPDX-License-Identifier: GPL-2.0-only
"""Results of ``klp-harness doctor``: one for each thing that the harness needs of the host."""

from __future__ import annotations

from typing import Literal

from harness.report.base import BaseReport, ResultBase


class DoctorResult(ResultBase):
    """One thing that the harness needs from the host, and how to get it."""

    detail: str
    hint: str | None = None


class DoctorReport(BaseReport):
    """``klp-harness doctor``: one result for each thing looked at."""

    command: Literal["doctor"] = "doctor"
    results: tuple[DoctorResult, ...] = ()
