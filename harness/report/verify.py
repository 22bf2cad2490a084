# SPDX-License-Identifier: GPL-2.0-only
"""Results of ``klp-harness verify``: one for each check of each module."""

from __future__ import annotations

from harness.report.base import Model, ResultBase


class VerifyResult(ResultBase):
    """A check of one module. ``id`` is the check, ``module`` the patch that it was made of.

    ``outcome`` is passed, warned, failed or not-run; ``code`` says for machines what was found,
    ``detail`` for people, ``advice`` what to do about it. ``lines`` are worth reading in full: a
    trace, stacks, names. ``evidence`` are files and folders with what the guest said.
    """

    module: str
    code: str
    detail: str
    advice: str | None = None
    lines: tuple[str, ...] = ()
    evidence: tuple[str, ...] = ()


class VerdictFacts(Model):
    """What one module came to: the worst of its checks. ``codes`` are those of what failed."""

    module: str
    outcome: str
    path: str
    codes: tuple[str, ...] = ()
    seconds: float = 0.0
