# SPDX-License-Identifier: GPL-2.0-only
"""Results of ``klp-harness kernel``: one for each kernel."""

from __future__ import annotations

from typing import Literal

from harness.report.base import BaseReport, ResultBase


class KernelResult(ResultBase):
    """A kernel in the cache. ``size_mib`` is what it takes on disk, ``last_used`` ISO 8601."""

    version: str | None = None
    digest: str | None = None
    image: str | None = None
    size_mib: float | None = None
    last_used: str | None = None


class KernelReport(BaseReport):
    """``klp-harness kernel build|list|prune``: one result for each kernel."""

    command: Literal["kernel build", "kernel list", "kernel prune"]
    results: tuple[KernelResult, ...] = ()
