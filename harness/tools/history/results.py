# SPDX-License-Identifier: GPL-2.0-only
"""Results of ``klp-harness history``: one for each patch, test or rule of the runs."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from harness.report.base import BaseReport, Model, ResultBase


class ChangeKind(StrEnum):
    """What changed from one run to a later one."""

    FAILS = "fails"
    PASSES = "passes"
    UNSTEADY = "unsteady"
    SLOWER = "slower"
    FASTER = "faster"
    NEW = "new"
    GONE = "gone"


class Change(Model):
    """A change. ``since`` is the time of the first run that has it, ``part`` the check of a patch.

    ``part`` is None where it is about the whole result.
    """

    kind: ChangeKind
    since: str
    detail: str
    part: str | None = None


class TrendResult(ResultBase):
    """The history of one result: its latest outcome and seconds, and what changed.

    ``command`` is the one whose result it is. ``runs`` is in how many runs it is, ``first`` and
    ``latest`` are their times. ``kernel`` is the latest release.
    """

    command: str
    runs: int
    first: str
    latest: str
    kernel: str | None = None
    detail: str = ""
    changes: tuple[Change, ...] = ()

    @property
    def is_excused(self) -> bool:
        """Whether the command does not fail by it: a history is no verdict."""
        return True


class HistoryReport(BaseReport):
    """``klp-harness history``. ``recorded`` is the number of runs, ``damaged`` are lines left out.

    ``slow_runs`` are the times of runs in which everything took longer: the machine was busy.
    """

    command: Literal["history"] = "history"
    results: tuple[TrendResult, ...] = ()
    recorded: int = 0
    damaged: tuple[str, ...] = ()
    slow_runs: tuple[str, ...] = ()
