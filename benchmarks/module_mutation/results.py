# SPDX-License-Identifier: GPL-2.0-only
"""Results of module mutation: one for each livepatch that was broken on purpose."""

from __future__ import annotations

from typing import Literal

from harness.report.base import BaseReport, CheckOutcome, Model, ResultBase


class Notice(Model):
    """A check of ``verify`` that a mutant fails, or that warns; see VerifyResult."""

    check: str
    code: str
    detail: str


class ModuleMutantResult(ResultBase):
    """A livepatch that is broken on purpose. ``id`` is module/kind/place.

    ``outcome`` is caught (a check failed that passes for the clean module), warned (none failed,
    and one warned that does not for the clean module), survived, does-not-load (the kernel refused
    it), error, not-run in a list, or not-applicable for the reason in ``detail``. ``kind`` is the
    operator's name, ``broken`` what it breaks, ``change`` what was changed in this module.
    ``caught_by`` are the checks that failed, ``warned_by`` those that warned; ``by_script``: only
    the check script failed. ``scenes`` are those that ran. ``equivalent`` is a proof that no check
    can notice it: such a mutant may survive.
    """

    module: str
    kind: str
    broken: str
    change: str = ""
    equivalent: str | None = None
    scenes: tuple[str, ...] = ()
    caught_by: tuple[Notice, ...] = ()
    warned_by: tuple[Notice, ...] = ()
    by_script: bool = False
    detail: str | None = None

    @property
    def is_news(self) -> bool:
        """Whether it survived without a proof of equivalence."""
        return self.outcome is CheckOutcome.SURVIVED and self.equivalent is None

    @property
    def is_excused(self) -> bool:
        """Whether a proof says that no check can notice it."""
        return self.equivalent is not None


class ModuleMutantReport(BaseReport):
    """``make grade``: one result for each module mutant."""

    command: Literal["grade"] = "grade"
    results: tuple[ModuleMutantResult, ...] = ()
