# SPDX-License-Identifier: GPL-2.0-only
"""From trials to results: what was found, whether it is known, and the line that shows it again."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from harness.cli.invocation import error_facts
from harness.errors import KernelVerdict, ModuleRefused
from harness.report.base import CheckOutcome
from harness.tools.race.explore.oracle import in_words
from harness.tools.race.explore.results import ExploreFinding, ExploreResult
from harness.tools.race.known_bugs import bug_of
from harness.tools.race.results import RaceHit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.cli.options import KernelOptions
    from harness.tools.race.explore.campaign import Found, PairTrials
    from harness.tools.race.known_bugs import KnownBug

_CONSOLE_LINES = 60


def result_of(
    trials: PairTrials,
    bugs: Sequence[KnownBug],
    *,
    words: Sequence[str],
    excuse_expected: bool = False,
) -> ExploreResult:
    """Return the result of all trials of a pair; ``words`` choose the kernel on a command line."""
    pair, error = trials.pair, trials.error
    findings = tuple(
        finding_of(trials, found, bugs, words=words) for found in trials.found.values()
    )
    is_known = bool(findings) and all(each.bug is not None for each in findings)
    detail = None
    if error is None and trials.failed and not trials.tried:
        error = trials.failed[0]
    if isinstance(error, ModuleRefused):
        detail = f"it cannot start on this kernel: {error.message}"
    elif trials.begun and not trials.holds and error is None and not trials.found:
        detail = "A passes none of the points"
    return ExploreResult(
        id=str(pair),
        outcome=_outcome(trials),
        seconds=trials.seconds,
        a=pair.a.does,
        b=pair.b.does,
        state=str(pair.state),
        points=len(trials.holds),
        tried=trials.tried,
        pruned=trials.pruned,
        alike=trials.alike,
        not_reached=trials.not_reached,
        blocked=trials.blocked,
        unsteady=len(trials.unsteady),
        failed=len(trials.failed),
        findings=findings,
        expected=is_known,
        excused=is_known and excuse_expected,
        detail=detail,
        error=error_facts(error) if error is not None and detail is None else None,
    )


def finding_of(
    trials: PairTrials, found: Found, bugs: Sequence[KnownBug], *, words: Sequence[str]
) -> ExploreFinding:
    """Return something that trials of a pair have shown."""
    seen, wrong = found.seen, found.wrong
    at = str(found.hold) if found.hold is not None else seen.plan
    example = found.example or seen
    details = wrong.details
    if found.shown == 1 and seen.earlier:
        count, last = len(seen.earlier), seen.earlier[-1]
        details = (*details, f"only in a guest with {count} trials before it, the last: {last}")
    again = ["klp-harness", "race", "explore", str(trials.pair), *words]
    if found.hold is not None:
        again += ["--at", at]
    look = f"steps: explore {trials.pair} at {at}"
    hit = RaceHit(seed=0, seconds=0, message=wrong.message, details=(look, *details))
    return ExploreFinding(
        at=at,
        kind=wrong.kind,
        message=wrong.message,
        details=details,
        points=tuple(text for _, text in sorted(trials.points.get(wrong.signature, ()))),
        shown=found.shown,
        tries=found.tries,
        bug=bug_of(hit, bugs),
        b=seen.b,
        outcome=in_words(seen) if seen.ended else None,
        allowed=trials.baselines.allowed() if trials.baselines is not None else (),
        calls=example.calls,
        calls_before=example.calls_before,
        console=seen.console[-_CONSOLE_LINES:],
        again=shlex.join(again),
    )


def kernel_words(kernel: KernelOptions, mutants: Sequence[str]) -> tuple[str, ...]:
    """Return the words of a command line that choose this kernel."""
    return (*kernel.as_arguments(), *(f"--mutant={name}" for name in mutants))


def _outcome(trials: PairTrials) -> CheckOutcome:
    if trials.found:
        return CheckOutcome.SHOWN
    if isinstance(trials.error, ModuleRefused):
        return CheckOutcome.NOT_APPLICABLE
    if isinstance(trials.error, KernelVerdict):
        return CheckOutcome.FAILED
    if trials.error is not None or (trials.failed and not trials.tried):
        return CheckOutcome.ERROR
    return CheckOutcome.NOT_SHOWN if trials.tried else CheckOutcome.NOT_RUN
