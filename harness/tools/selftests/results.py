# SPDX-License-Identifier: GPL-2.0-only
"""Results of ``klp-harness selftests``: one for each case of the kernel's own selftests."""

from __future__ import annotations

from typing import Literal

from harness.report.base import BaseReport, ResultBase


class SelftestResult(ResultBase):
    """A case of the kernel's own selftests; ``id`` is script/case. ``detail``: what it said."""

    script: str
    detail: tuple[str, ...] = ()

    @property
    def group(self) -> str | None:
        """The script that the case is part of."""
        return self.script


class SelftestReport(BaseReport):
    """``klp-harness selftests``: one result for each case of the kernel's own selftests."""

    command: Literal["selftests"] = "selftests"
    results: tuple[SelftestResult, ...] = ()
