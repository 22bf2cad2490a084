# SPDX-License-Identifier: GPL-2.0-only
"""Results of ``klp-harness classify``: the place in the table LEAVE x SWITCH."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from harness.report.base import BaseReport, Model, ResultBase


class Leave(StrEnum):
    """What execution has to leave before it gets the new functions."""

    FUNCTION = "LEAVE_FUNCTION"
    PATCHED_SET = "LEAVE_PATCHED_SET"
    KERNEL = "LEAVE_KERNEL"


class Switch(StrEnum):
    """What gets the new functions at a time."""

    FUNCTION = "SWITCH_FUNCTION"
    THREAD = "SWITCH_THREAD"
    KERNEL = "SWITCH_KERNEL"


class Experiment(Model):
    """One experiment on a kernel: what was done and seen, and what that means."""

    id: str
    done: str
    seen: str
    means: str


class ClassifyResult(ResultBase):
    """A place in the table: of the ``kernel`` as it works by itself, or of ``forced`` tasks."""

    leave: Leave
    switch: Switch
    experiments: tuple[Experiment, ...]


class ClassifyReport(BaseReport):
    """``klp-harness classify``: ``leave`` and ``switch`` are the kernel's; None: not found."""

    command: Literal["classify"] = "classify"
    leave: Leave | None = None
    switch: Switch | None = None
    results: tuple[ClassifyResult, ...] = ()
