# SPDX-License-Identifier: GPL-2.0-only
"""What changed over the runs of a history. Pure.

A time is compared with the median of earlier runs on the same kind of machine. One run on a busy
machine is no trend: what counts is how much longer a result took than all others of its run did,
and that it did so in two runs in a row.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING

from harness.report.base import CheckOutcome
from harness.tools.history.results import Change, ChangeKind, TrendResult

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from harness.report.history import HistoryResult, HistoryRun, RecordedRun

_LEAST_BEFORE = 3
_MOST_BEFORE = 10
_IN_A_ROW = 2
_SLOWER = 1.3
_LATEST = 20
_LEAST_S = 2.0
_BUSY = 1.3
# Of fewer results nothing can be said about the machine.
_LEAST_RESULTS = 4
_RECENT = 10
_UNSTEADY = 3
_BAD = frozenset(
    {CheckOutcome.FAILED, CheckOutcome.ERROR, CheckOutcome.SHOWN, CheckOutcome.SURVIVED}
)
_NO_OPINION = frozenset({CheckOutcome.NOT_RUN, CheckOutcome.SKIPPED, CheckOutcome.NOT_APPLICABLE})


@dataclass(frozen=True, kw_only=True)
class Point:
    """One result in one run."""

    run: HistoryRun
    result: HistoryResult


@dataclass(frozen=True, kw_only=True)
class Series:
    """A result over all runs, the oldest first."""

    command: str
    id: str
    points: tuple[Point, ...]


def series_of(recordings: Sequence[RecordedRun]) -> tuple[Series, ...]:
    """Return the series of a history, by command and id; a run that is there twice counts once."""
    found: dict[tuple[str, str], list[Point]] = {}
    once = {each.run.id: each for each in recordings}
    for recording in sorted(once.values(), key=lambda each: (each.run.at, each.run.id)):
        for result in recording.results:
            key = (recording.run.command, result.id)
            found.setdefault(key, []).append(Point(run=recording.run, result=result))
    return tuple(
        Series(command=command, id=name, points=tuple(points))
        for (command, name), points in sorted(found.items())
    )


def paces(series: Sequence[Series]) -> Mapping[str, float]:
    """Return by run how much longer than usual its results took, the median of all of them.

    1.0 where too few results have a past to be compared with.
    """
    ratios: dict[str, list[float]] = {}
    for each in series:
        good = [point for point in each.points if point.result.outcome not in _BAD]
        timed = _timed([(point.run, point.result.seconds) for point in good])
        for number, (run, seconds) in enumerate(timed):
            usual = _usual(timed[:number], run)
            if usual:
                ratios.setdefault(run.id, []).append(seconds / usual)
    return {
        run: median(found) if len(found) >= _LEAST_RESULTS else 1.0 for run, found in ratios.items()
    }


def slow_runs(series: Sequence[Series], pace: Mapping[str, float]) -> tuple[str, ...]:
    """Return the times of runs in which everything took longer."""
    times = {point.run.id: point.run.at for each in series for point in each.points}
    return tuple(sorted(times[run] for run, ratio in pace.items() if ratio >= _BUSY))


def trends(series: Sequence[Series]) -> tuple[TrendResult, ...]:
    """Return the latest of each series and what changed, those with changes first."""
    pace = paces(series)
    latest: dict[str, HistoryRun] = {}
    first: dict[str, HistoryRun] = {}
    for each in series:
        for point in each.points:
            run = point.run
            latest[each.command] = max(run, latest.get(each.command, run), key=_order)
            first[each.command] = min(run, first.get(each.command, run), key=_order)
    results = [
        _trend(each, pace, first=first[each.command], latest=latest[each.command])
        for each in series
    ]
    kinds = list(ChangeKind)
    return tuple(
        sorted(results, key=lambda r: min([kinds.index(c.kind) for c in r.changes], default=99))
    )


def _order(run: HistoryRun) -> tuple[str, str]:
    return run.at, run.id


def _trend(
    series: Series, pace: Mapping[str, float], *, first: HistoryRun, latest: HistoryRun
) -> TrendResult:
    points = series.points
    last = points[-1]
    changes: list[Change] = []
    if last.run.id != latest.id and not latest.partial:
        changes.append(
            Change(kind=ChangeKind.GONE, since=latest.at, detail="it is not in the latest run")
        )
    elif points[0].run.id != first.id and len(points) == 1:
        changes.append(Change(kind=ChangeKind.NEW, since=last.run.at, detail="it is new"))
    changes += _outcomes(points)
    # What fails ends early, or late.
    judged = [point for point in points if point.result.outcome not in _BAD]
    changes += _times([(p.run, p.result.seconds) for p in judged], pace, part=None)
    for part in last.result.parts:
        timed = [
            (point.run, point.result.parts[part][1])
            for point in judged
            if part in point.result.parts and point.result.parts[part][0] not in _BAD
        ]
        changes += _times(timed, pace, part=part)
    return TrendResult(
        id=series.id,
        outcome=last.result.outcome,
        seconds=last.result.seconds,
        command=series.command,
        runs=len(points),
        first=points[0].run.at,
        latest=last.run.at,
        kernel=last.result.kernel,
        detail=last.result.detail,
        changes=tuple(changes),
    )


def _outcomes(points: Sequence[Point]) -> Iterator[Change]:
    """Yield that a result began to fail, passes again, or changes all the time."""
    judged = [point for point in points if point.result.outcome not in _NO_OPINION]
    if not judged:
        return
    bad = [point.result.outcome in _BAD for point in judged]
    start = len(bad) - 1
    while start and bad[start - 1] == bad[-1]:
        start -= 1
    since = judged[start]
    recent = bad[-_RECENT:]
    turns = sum(one != other for one, other in pairwise(recent))
    if turns >= _UNSTEADY:
        yield Change(
            kind=ChangeKind.UNSTEADY,
            since=judged[-len(recent)].run.at,
            detail=f"{sum(recent)} of the latest {len(recent)} runs failed",
        )
    elif start and bad[-1]:
        before = judged[start - 1].result
        now = since.result
        kernels = f", {before.kernel} -> {now.kernel}" if before.kernel != now.kernel else ""
        codes = f" [{', '.join(now.codes)}]" if now.codes else ""
        yield Change(
            kind=ChangeKind.FAILS,
            since=since.run.at,
            detail=f"{before.outcome.value} -> {now.outcome.value}{codes}{kernels}: {now.detail}",
        )
    elif start and len(bad) - start <= _IN_A_ROW:
        outcomes = f"{judged[start - 1].result.outcome.value} -> {since.result.outcome.value}"
        yield Change(kind=ChangeKind.PASSES, since=since.run.at, detail=outcomes)


def _times(
    given: Sequence[tuple[HistoryRun, float]], pace: Mapping[str, float], *, part: str | None
) -> Iterator[Change]:
    """Yield that something takes longer than before, or no longer does."""
    timed = _timed(given)
    last = timed[-1][0] if timed else None
    if last is None:
        return
    for start in range(max(_LEAST_BEFORE, len(timed) - _LATEST), len(timed) - _IN_A_ROW + 1):
        usual = _usual(timed[:start], last)
        found = {_judged(each, usual, pace) for each in timed[start:]} if usual else {None}
        kind = found.pop()
        if found or kind is None:
            continue
        now = median(seconds for _, seconds in timed[start:])
        yield Change(
            kind=kind,
            since=timed[start][0].at,
            detail=f"{usual:.1f} s -> {now:.1f} s",
            part=part,
        )
        return


def _judged(
    timed: tuple[HistoryRun, float], usual: float, pace: Mapping[str, float]
) -> ChangeKind | None:
    run, seconds = timed
    own = seconds / pace.get(run.id, 1.0)
    if abs(own - usual) < _LEAST_S:
        return None
    if own >= usual * _SLOWER:
        return ChangeKind.SLOWER
    return ChangeKind.FASTER if own * _SLOWER <= usual else None


def _timed(given: Sequence[tuple[HistoryRun, float]]) -> list[tuple[HistoryRun, float]]:
    return [(run, seconds) for run, seconds in given if seconds > 0]


def _usual(before: Sequence[tuple[HistoryRun, float]], run: HistoryRun) -> float:
    """Return the median of earlier runs on the same kind of machine; 0.0: there are too few."""
    same = [seconds for other, seconds in before if _machine(other) == _machine(run)]
    return median(same[-_MOST_BEFORE:]) if len(same) >= _LEAST_BEFORE else 0.0


def _machine(run: HistoryRun) -> tuple[str | None, int]:
    return run.accelerator, run.host.cpus
