# SPDX-License-Identifier: GPL-2.0-only
"""What verifying a livepatch came to: checks with codes, and the verdict they make. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from harness.errors import HarnessError
    from harness.report.run_results import RunResult


class CheckResult(StrEnum):
    """What one check came to. ``not-run``: its detail says why."""

    PASSED = "passed"
    WARNED = "warned"
    FAILED = "failed"
    NOT_RUN = "not-run"


class Code(StrEnum):
    """What a check found, for machines. ``ok`` is the code of what passed."""

    OK = "ok"
    NOT_RUN = "not-run"
    # -- read from the file, before a guest sees it
    LICENCE = "licence"
    UNRESOLVED_SYMBOL = "unresolved-symbol"
    NO_SUCH_FUNCTION = "no-such-function"
    AMBIGUOUS = "ambiguous"
    SYMPOS_OUT_OF_RANGE = "sympos-out-of-range"
    NOT_TRACEABLE = "not-traceable"
    INIT_FUNCTION = "init-function"
    LIST_END = "list-end"
    UNUSED_BODY = "unused-body"
    RELOCATION = "relocation"
    TARGET_MISSING = "target-missing"
    ALWAYS_ON_STACK = "always-on-stack"
    UNSIGNED = "unsigned"
    NOT_CUMULATIVE = "not-cumulative"
    STATE_VERSION = "state-version"
    # -- what the kernel did
    LOAD_REFUSED = "load-refused"
    TARGET_REFUSED = "target-refused"
    UPGRADE_REFUSED = "upgrade-refused"
    DOWNGRADE_REFUSED = "downgrade-refused"
    UNLOAD_REFUSED = "unload-refused"
    WRITE_REFUSED = "write-refused"
    TRANSITION_TIMEOUT = "transition-timeout"
    SLOW_TRANSITION = "slow-transition"
    ON_STACK = "on-stack"
    NOT_REDIRECTED = "not-redirected"
    NOT_RESTORED = "not-restored"
    NOT_REPLACED = "not-replaced"
    REPLACED_LEAVES = "replaced-leaves"
    PINNED = "pinned"
    LEFT_BEHIND = "left-behind"
    LEAK = "leak"
    # -- what the user's script said
    CHECK_FAILED = "check-failed"
    CHECK_HUNG = "check-hung"
    # -- how a guest ended
    SPLAT = "splat"
    PANIC = "panic"
    HANG = "hang"
    STUCK = "stuck"


@dataclass(frozen=True, kw_only=True)
class Check:
    """One check. ``detail`` is what was found, ``advice`` what to do about it.

    ``seconds`` is host time. ``evidence`` are files and folders with what the guest said.
    """

    id: str
    outcome: CheckResult
    code: Code = Code.OK
    detail: str = ""
    advice: str | None = None
    lines: tuple[str, ...] = ()
    seconds: float = 0.0
    evidence: tuple[Path, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """All checks of one module.

    ``runs`` are the recorded timelines. ``trouble`` is what harness or host got wrong on the way;
    without it every check ran that could.
    """

    module: str
    checks: tuple[Check, ...]
    runs: tuple[RunResult, ...] = ()
    seconds: float = 0.0
    trouble: tuple[HarnessError, ...] = field(default=())

    @property
    def outcome(self) -> CheckResult:
        """The worst of all checks: passed, warned or failed. What was not run does not count."""
        return worst(check.outcome for check in self.checks)

    @property
    def failed(self) -> tuple[Check, ...]:
        """The checks that failed."""
        return tuple(check for check in self.checks if check.outcome is CheckResult.FAILED)

    @property
    def codes(self) -> frozenset[Code]:
        """The codes of what failed."""
        return frozenset(check.code for check in self.failed)

    def check(self, name: str) -> Check:
        """Return the check of that id; raises KeyError."""
        for check in self.checks:
            if check.id == name:
                return check
        raise KeyError(name)


def worst(outcomes: Iterable[CheckResult]) -> CheckResult:
    """Return failed, warned or passed, whichever is the worst among the outcomes."""
    seen = set(outcomes)
    for outcome in (CheckResult.FAILED, CheckResult.WARNED):
        if outcome in seen:
            return outcome
    return CheckResult.PASSED
