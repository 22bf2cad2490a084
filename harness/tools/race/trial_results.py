# SPDX-License-Identifier: GPL-2.0-only
"""From trials to results, as terminal and files show them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.cli.invocation import error_facts
from harness.report.base import CheckOutcome
from harness.tools.race.catalogue import known_of
from harness.tools.race.known_bugs import bug_of
from harness.tools.race.reproducers.fuzz import is_fuzzer
from harness.tools.race.results import RaceHit, RaceResult

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.tools.race.campaign import Extent, ReproducerTrials, Trial
    from harness.tools.race.known_bugs import KnownBug
    from harness.tools.race.reproducer import Reproducer


def result_of(
    race: Reproducer,
    outcome: CheckOutcome,
    *,
    known: str | None = None,
    detail: str | None = None,
) -> RaceResult:
    """Return the result of a reproducer without any trial."""
    return RaceResult(
        id=race.name,
        outcome=outcome,
        seconds=0.0,
        title=race.title,
        rule=race.rule,
        fixed_by=race.fixed_by,
        expected=known is not None,
        known=known,
        detail=detail,
    )


def judge(
    found: ReproducerTrials,
    version: str,
    extent: Extent,
    *,
    excuse_expected: bool = False,
    known: Sequence[KnownBug] = (),
) -> RaceResult:
    """Return the result of all trials of a reproducer on that release of the kernel.

    A hit counts before another failure of the kernel, and that before one of harness or host.
    ``known`` are signatures of bugs, by which hits of the fuzzer are named.
    """
    failed = next((trial.failed for trial in found.trials if trial.failed), None)
    broken = next((trial.error for trial in found.trials if trial.error), None)
    if found.hits:
        outcome = CheckOutcome.SHOWN
    elif failed is not None:
        outcome = CheckOutcome.FAILED
    elif broken is not None:
        outcome = CheckOutcome.ERROR
    else:
        outcome = CheckOutcome.NOT_SHOWN if found.judged else CheckOutcome.NOT_RUN
    low, high = found.interval()
    error = failed or broken
    result = result_of(found.race, outcome, known=known_of(found.race, version))
    hits = tuple(hit_of(trial, known) for trial in found.hits)
    is_known = bool(hits) and failed is None and all(hit.bug for hit in hits)
    return result.model_copy(
        update={
            "excused": excuse_expected and (result.expected or is_known),
            "seconds": sum(trial.seconds for trial in found.trials),
            "seed": extent.seed,
            "trials": found.judged,
            "hits": hits,
            "low": low,
            "high": high,
            "first_hit_s": found.first_hit_s,
            "error": error_facts(error) if error is not None else None,
        }
    )


def hit_of(trial: Trial, known: Sequence[KnownBug] = ()) -> RaceHit:
    """Return a trial that showed its race; one of the fuzzer has the name of a known bug."""
    assert trial.shown is not None
    folder = trial.shown.artefacts
    hit = RaceHit(
        seed=trial.seed,
        seconds=trial.seconds,
        message=trial.shown.message,
        details=trial.shown.details,
        logs=str(folder) if folder is not None else None,
    )
    return hit.model_copy(update={"bug": bug_of(hit, known)}) if is_fuzzer(trial.race) else hit
