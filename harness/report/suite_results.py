# SPDX-License-Identifier: GPL-2.0-only
"""Results of ``klp-harness test``: one for each test."""

from __future__ import annotations

from typing import Literal

from harness.report.base import BaseReport, ResultBase


class TestResult(ResultBase):
    """One test. ``rules`` are the ids of the rules that it proves.

    ``kernel`` is the release with its source, ``kernel_digest`` that of its build; None: no guest.
    """

    __test__ = False

    rules: tuple[str, ...] = ()
    kernel: str | None = None
    kernel_digest: str | None = None
    detail: str | None = None

    @property
    def group(self) -> str | None:
        """The test's file."""
        return self.id.partition("::")[0]


class TestReport(BaseReport):
    """``klp-harness test``: one result for each test."""

    __test__ = False

    command: Literal["test"] = "test"
    results: tuple[TestResult, ...] = ()
