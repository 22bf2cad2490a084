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
    """A place in the table: of a kernel as it works by itself, or of ``forced`` tasks.

    ``model`` is the model that the kernel was made with, and ``expected`` its place; None for any
    other kernel. ``leave`` and ``switch`` are None where nothing was observed. ``never_ended`` says
    which tasks held the transition for ever, so that it was forced after the observations.
    """

    leave: Leave | None = None
    switch: Switch | None = None
    experiments: tuple[Experiment, ...] = ()
    model: str | None = None
    expected: str | None = None
    forced: bool = False
    never_ended: str | None = None
    detail: str | None = None

    @property
    def group(self) -> str | None:
        """The model."""
        return self.model


class ModelResult(ResultBase):
    """A model of the catalogue; ``kernels`` are the series that it is written for, empty: any."""

    does: str
    systems: str
    mail: str
    leave: Leave
    switch: Switch
    cannot: str
    kernels: tuple[str, ...]


class ComparedResult(ResultBase):
    """A row of the comparison for one model.

    ``values`` are in ``unit`` (s, tasks, pairs; empty where the row has words alone), ``median`` is
    theirs. ``tasks`` is how many slept. ``never`` says why a transition did not end, ``says``
    what was seen beside the numbers, ``detail`` which promise was broken, or what failed.
    """

    model: str
    row: str
    unit: str
    tasks: int | None = None
    values: tuple[float, ...] = ()
    median: float | None = None
    never: str | None = None
    says: str | None = None
    detail: str | None = None

    @property
    def group(self) -> str | None:
        """The model."""
        return self.model


class ModelsCompareReport(BaseReport):
    """``klp-harness models compare``."""

    command: Literal["models compare"] = "models compare"
    results: tuple[ComparedResult, ...] = ()


class ModelsReport(BaseReport):
    """``klp-harness models list``."""

    command: Literal["models list"] = "models list"
    results: tuple[ModelResult, ...] = ()


class ClassifyReport(BaseReport):
    """``klp-harness classify``: ``leave`` and ``switch`` of the kernel, where it is one."""

    command: Literal["classify"] = "classify"
    leave: Leave | None = None
    switch: Switch | None = None
    results: tuple[ClassifyResult, ...] = ()
