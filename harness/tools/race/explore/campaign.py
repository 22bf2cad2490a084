# SPDX-License-Identifier: GPL-2.0-only
"""The trials of a campaign: each pair at each of its points, several at a time.

How a trial is made is the caller's: the order, the counts and the repetitions are tested without a
guest.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol, TypeVar

from harness.errors import HarnessError, KernelVerdict, KlpError
from harness.threads import run_jobs
from harness.tools.race.explore.oracle import Baselines, Wrong, failure_of
from harness.tools.race.explore.points import Hold, parse_hold
from harness.tools.race.explore.results import FindingKind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from harness.tools.race.explore.kept import KeptTrials
    from harness.tools.race.explore.pairs import Pair, State
    from harness.tools.race.explore.points import Point
    from harness.tools.race.explore.trial import Order, Seen

_REPEATS = 3
_WAKE_S = 0.5


_Made = TypeVar("_Made")


class Maker(Protocol):
    """What makes trials. Implements: `trial.Trials`."""

    def points_of(self, pair: Pair, *, dense: bool) -> tuple[Point, ...]:
        """Return the points that A passes."""

    def try_hold(self, pair: Pair, hold: Hold, *, with_calls: bool = False) -> Seen:
        """Make a trial with a hold."""

    def try_order(self, pair: Pair, order: Order) -> Seen:
        """Make a trial of a sequential order."""

    def drop(self, state: State) -> None:
        """No pair needs that state any more."""


@dataclass(frozen=True, kw_only=True)
class Extent:
    """What is tried. ``holds``: these at each pair, in place of those of the points that A passes.

    ``most`` and ``seconds`` end the campaign; ``bound`` 2 holds B too. ``off``: A is scheduled out
    at its points.
    """

    holds: tuple[Hold, ...] = ()
    dense: bool = False
    bound: int = 1
    off: bool = False
    most: int | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class Found:
    """Something that trials of a pair have shown; ``hold`` is None for an order.

    ``example`` is a repetition with its calls.
    """

    wrong: Wrong
    hold: Hold | None
    seen: Seen
    shown: int = 1
    tries: int = 1
    example: Seen | None = None


@dataclass
class PairTrials:
    """All trials of one pair."""

    pair: Pair
    holds: tuple[Hold, ...] = ()
    tried: int = 0
    not_reached: int = 0
    blocked: int = 0
    unsteady: list[Wrong] = field(default_factory=list)
    failed: list[HarnessError] = field(default_factory=list)
    found: dict[tuple[FindingKind, str], Found] = field(default_factory=dict)
    points: dict[tuple[FindingKind, str], list[tuple[int, str]]] = field(default_factory=dict)
    confirmed: set[tuple[FindingKind, str]] = field(default_factory=set)
    error: KlpError | None = None
    seconds: float = 0.0
    left: int = 0
    baselines: Baselines | None = None


@dataclass(frozen=True)
class _Job:
    trials: PairTrials
    number: int = -1
    hold: Hold | None = None


class Campaign:
    """The trials of some pairs. ``pairs`` has those of each."""

    def __init__(
        self,
        pairs: Sequence[Pair],
        extent: Extent,
        maker: Maker,
        kept: KeptTrials | None = None,
    ) -> None:
        self.pairs = tuple(PairTrials(pair) for pair in pairs)
        self._extent = extent
        self._maker = maker
        self._kept = kept
        self._ready: deque[_Job] = deque(_Job(each) for each in self.pairs)
        self._states: dict[State, int] = {}
        for pair in pairs:
            self._states[pair.state] = self._states.get(pair.state, 0) + 1
        self._changed = threading.Condition()
        self._at_work = 0
        self._given = 0
        self._end_s: float | None = None

    @property
    def tried(self) -> int:
        """How many trials with a hold have ended."""
        return sum(each.tried for each in self.pairs)

    @property
    def known_total(self) -> int:
        """How many trials there are, as far as the points are known."""
        return sum(len(each.holds) for each in self.pairs)

    def run(self, *, guests: int) -> Iterator[tuple[PairTrials, Found | None]]:
        """Make so many trials at a time; yield each pair when something of it has ended.

        With what was found for the first time, if anything was. Raises what is no trial's fault.
        """
        if self._extent.seconds is not None:
            self._end_s = time.monotonic() + self._extent.seconds
        yield from run_jobs(self._jobs(), self._do, at_a_time=guests, name="explore")

    def _jobs(self) -> Iterator[_Job]:
        while True:
            with self._changed:
                if self._is_over():
                    return
                if self._ready:
                    job = self._ready.popleft()
                    self._at_work += 1
                    self._given += job.hold is not None
                elif self._at_work:
                    self._changed.wait(_WAKE_S)
                    continue
                else:
                    return
            yield job

    def _is_over(self) -> bool:
        if self._end_s is not None and time.monotonic() >= self._end_s:
            return True
        return self._extent.most is not None and self._given >= self._extent.most

    def _do(self, job: _Job) -> tuple[PairTrials, Found | None]:
        start_s = time.monotonic()
        try:
            found = self._prepare(job.trials) if job.hold is None else self._try(job)
        finally:
            with self._changed:
                trials = job.trials
                if job.hold is not None:
                    trials.left -= 1
                is_last = not trials.left
            if is_last:
                self._shorten(trials)
            with self._changed:
                trials.seconds += time.monotonic() - start_s
                self._at_work -= 1
                if is_last:
                    self._end_pair(trials.pair.state)
                self._changed.notify_all()
        return job.trials, found

    def _shorten(self, trials: PairTrials) -> None:
        """Exchange findings for ones with fewer holds, or at an earlier point, if those show it."""
        for signature, found in tuple(trials.found.items()):
            if found.hold is None:
                continue
            numbers = [number for number, _ in trials.points.get(signature, ())]
            shorter = [trials.holds[min(numbers)]] if numbers else []
            if found.hold.b is not None and found.hold.alone not in trials.holds:
                shorter.insert(0, found.hold.alone)
            for hold in shorter:
                if hold == found.hold:
                    break
                shown, seen = self._repeat(trials, found.wrong, hold)
                if seen is not None:
                    trials.found[signature] = replace(
                        found, hold=hold, seen=seen, shown=shown, tries=_REPEATS, example=seen
                    )
                    break

    def _end_pair(self, state: State) -> None:
        self._states[state] -= 1
        if not self._states[state]:
            self._maker.drop(state)

    def _prepare(self, trials: PairTrials) -> Found | None:
        """Look at the orders of a pair, and find its points."""
        pair = trials.pair
        known = self._known_holds(pair)
        if known is not None and not self._take_known(trials, known):
            trials.holds = known
            return None
        trials.baselines = Baselines(
            lambda order: _steadily(lambda: self._maker.try_order(pair, order)),
            a=len(pair.steps(pair.a)),
            b=len(pair.steps(pair.b)),
        )
        try:
            for order, seen, wrong in trials.baselines.first():
                if wrong is not None:
                    return self._confirm_order(trials, order, seen, wrong)
            holds = known or self._holds(pair)
        except (HarnessError, KernelVerdict) as error:
            trials.error = error
            return None
        with self._changed:
            trials.holds = holds
            new = [each for each in enumerate(holds) if not self._is_kept(pair, each[1])]
            trials.left = len(new)
            # Before pairs that have not begun, so that their states are needed one after the other.
            self._ready.extendleft(_Job(trials, *each) for each in reversed(new))
        return None

    def _holds(self, pair: Pair) -> tuple[Hold, ...]:
        dense = self._extent.dense
        points = _steadily(lambda: self._maker.points_of(pair, dense=dense))
        if self._kept is not None:
            self._kept.add_points(str(pair), tuple(map(str, points)), dense=dense)
        return self._of_points(pair, points)

    def _of_points(self, pair: Pair, points: Sequence[Point]) -> tuple[Hold, ...]:
        """Return A's holds; with a bound of 2, each with each point of B, and the single ones."""
        single = tuple(Hold(a=replace(point, off=self._extent.off)) for point in points)
        if self._extent.bound == 1:
            return single
        other = replace(pair, a=pair.b)
        of_b = _steadily(lambda: self._maker.points_of(other, dense=False))
        places = dict.fromkeys(point.place for point in of_b)
        return (*single, *(replace(hold, b=place) for hold in single for place in places))

    def _known_holds(self, pair: Pair) -> tuple[Hold, ...] | None:
        """Return what is to be tried, if that is known without a run of A."""
        if self._extent.holds or self._kept is None:
            return self._extent.holds or None
        points = self._kept.points(str(pair), dense=self._extent.dense)
        if points is None:
            return None
        return self._of_points(pair, [parse_hold(text).a for text in points])

    def _is_kept(self, pair: Pair, hold: Hold) -> bool:
        return self._kept is not None and self._kept.trial(str(pair), str(hold)) is not None

    def _take_known(self, trials: PairTrials, holds: Sequence[Hold]) -> bool:
        """Count the trials that an earlier run has made; return whether any is left."""
        left = False
        for hold in holds:
            known = self._kept.trial(str(trials.pair), str(hold)) if self._kept else None
            if known is None:
                left = True
            else:
                trials.tried += 1
                trials.not_reached += not known[0]
                trials.blocked += known[1]
        return left

    def _try(self, job: _Job) -> Found | None:
        trials, hold = job.trials, job.hold
        assert hold is not None
        assert trials.baselines is not None
        try:
            seen = _steadily(lambda: self._maker.try_hold(trials.pair, hold))
            wrong = trials.baselines.judge(seen) if seen.reached else None
        except HarnessError as error:
            with self._changed:
                trials.failed.append(error)
            return None
        with self._changed:
            trials.tried += 1
            trials.not_reached += not seen.reached
            trials.blocked += seen.b_waited
        if wrong is None and self._kept is not None:
            self._kept.add_trial(
                str(trials.pair), str(hold), reached=seen.reached, blocked=seen.b_waited
            )
        return None if wrong is None else self._confirm(trials, wrong, job.number, hold, seen)

    def _confirm_order(
        self, trials: PairTrials, order: Order, seen: Seen, wrong: Wrong
    ) -> Found | None:
        """Try an order again that fails by itself; without it nothing can be said of the pair."""
        shown = 0
        for _ in range(_REPEATS):
            again = failure_of(_steadily(lambda: self._maker.try_order(trials.pair, order)))
            shown += again is not None and again.signature == wrong.signature
        if shown or wrong.kind is FindingKind.SPLAT:
            return self._add(trials, Found(wrong, None, seen, shown + 1, _REPEATS + 1))
        trials.error = HarnessError(
            f"{trials.pair} failed once in the order {seen.plan}, and not again: {wrong.message}",
            hint="the host may be busy; try again",
        )
        return None

    def _confirm(
        self, trials: PairTrials, wrong: Wrong, number: int, hold: Hold, seen: Seen
    ) -> Found | None:
        """Try again what a trial has shown; return it when it is new."""
        with self._changed:
            points = trials.points.setdefault(wrong.signature, [])
            points.append((number, str(hold)))
            if wrong.signature in trials.confirmed:
                return None
            trials.confirmed.add(wrong.signature)
        shown, last = self._repeat(trials, wrong, hold)
        example = last if last is not None and last.calls else None
        # A splat has been printed, however often it comes; anything else may be the host's pace.
        if not shown and wrong.kind is not FindingKind.SPLAT:
            with self._changed:
                trials.unsteady.append(wrong)
                # Another point may show it each time.
                trials.confirmed.discard(wrong.signature)
                points.remove((number, str(hold)))
            return None
        return self._add(trials, Found(wrong, hold, seen, shown + 1, _REPEATS + 1, example=example))

    def _repeat(self, trials: PairTrials, wrong: Wrong, hold: Hold) -> tuple[int, Seen | None]:
        """Try a hold some more times; return how often it shows this, and the last that does."""
        shown, last = 0, None
        for repeat in range(_REPEATS):
            try:
                again = self._maker.try_hold(trials.pair, hold, with_calls=repeat == _REPEATS - 1)
                assert trials.baselines is not None
                same = trials.baselines.judge(again) if again.reached else None
            except HarnessError:
                continue
            if same is not None and same.signature == wrong.signature:
                shown, last = shown + 1, again
        return shown, last

    def _add(self, trials: PairTrials, found: Found) -> Found:
        with self._changed:
            trials.found[found.wrong.signature] = found
        return found


def _steadily(make: Callable[[], _Made]) -> _Made:
    """Make a trial once more when the host has spoiled it."""
    try:
        return make()
    except HarnessError:
        return make()
