# SPDX-License-Identifier: GPL-2.0-only
"""Results that are about rules and models of live patching: ``behaviours`` and ``classify``."""

from __future__ import annotations

from enum import StrEnum

from harness.report.base import CheckOutcome, Model, ResultBase


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


class RuleOnKernel(Model):
    """What a rule last came to on one kernel, which is the worst of its tests.

    ``expected`` is what the table says of that kernel, and ``detail`` the reason of a test that did
    not pass. ``at`` is when the last of its tests ended, ISO 8601.
    """

    version: str
    digest: str
    source: str
    outcome: CheckOutcome
    expected: CheckOutcome
    detail: str | None = None
    at: str | None = None


class BehaviourResult(ResultBase):
    """A rule of live patching. ``outcome`` is the worst of ``kernels``, ``tests`` carry its id.

    ``source`` is what it rests on, ``public`` the public suites that test it too.
    """

    holds: str
    tests: tuple[str, ...]
    source: tuple[str, ...] = ()
    public: tuple[str, ...] = ()
    kernels: tuple[RuleOnKernel, ...] = ()


class Experiment(Model):
    """One experiment on a kernel: what was done, what was seen, and what that means."""

    id: str
    done: str
    seen: str
    means: str


class ClassifyResult(ResultBase):
    """Where tasks have their place: ``kernel`` as it works by itself, ``forced`` after force."""

    leave: Leave
    switch: Switch
    experiments: tuple[Experiment, ...]
