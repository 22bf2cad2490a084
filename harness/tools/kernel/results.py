# SPDX-License-Identifier: GPL-2.0-only
"""Results of ``klp-harness kernel``: one for each kernel."""

from __future__ import annotations

from typing import Literal

from harness.report.base import BaseReport, Model, ResultBase


class ConfigChange(Model):
    """An option of which the build has another value than the file of --config."""

    symbol: str
    wanted: str
    got: str
    reason: str


class KernelResult(ResultBase):
    """A kernel in the cache. ``size_mib`` is what it takes on disk, ``last_used`` ISO 8601.

    ``config_changes``: what a build with --config has otherwise than that file.
    """

    version: str | None = None
    digest: str | None = None
    image: str | None = None
    config_changes: tuple[ConfigChange, ...] = ()
    size_mib: float | None = None
    last_used: str | None = None


class KernelReport(BaseReport):
    """``klp-harness kernel build|list|prune``: one result for each kernel."""

    command: Literal["kernel build", "kernel list", "kernel prune"]
    results: tuple[KernelResult, ...] = ()
