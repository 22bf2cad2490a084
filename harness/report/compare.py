# SPDX-License-Identifier: GPL-2.0-only
"""Results of ``compare``: the rules of live patching on one kernel and on another."""

from __future__ import annotations

from enum import StrEnum

from harness.report.base import CheckOutcome, ResultBase


class Change(StrEnum):
    """How a rule differs on the second kernel. ``worse``: it held before, and fails now."""

    SAME = "same"
    WORSE = "worse"
    BETTER = "better"
    OTHER = "other"


class CompareResult(ResultBase):
    """A rule on both kernels. ``outcome`` is failed when the change is for the worse.

    ``tests`` are those with different outcomes, ``detail`` what a test said on the second kernel.
    """

    before: CheckOutcome
    after: CheckOutcome
    change: Change
    tests: tuple[str, ...] = ()
    detail: str | None = None
