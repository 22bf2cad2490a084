# SPDX-License-Identifier: GPL-2.0-only
"""The trials of a campaign: each pair at each of its points, several at a time.

How a trial is made is the caller's: the order, the counts and the repetitions are tested without a
guest.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from harness.errors import HarnessError, KernelVerdict, KlpError
from harness.threads import run_jobs
from harness.tools.race.explore.kept import KeptTrial
from harness.tools.race.explore.oracle import Baselines, Wrong, failure_of
from harness.tools.race.explore.points import Hold, parse_hold
from harness.tools.race.explore.results import FindingKind
from harness.tools.race.explore.schedule import Job, Schedule

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from harness.tools.race.explore.kept import KeptTrials
    from harness.tools.race.explore.maker import Maker
    from harness.tools.race.explore.pairs import Pair, State
    from harness.tools.race.explore.points import Point
    from harness.tools.race.explore.seen import Order, Seen

_REPEATS = 3
# At so many other points a finding is tried.
_EARLIER, _LATER = 3, 6

_Made = TypeVar("_Made")


@dataclass(frozen=True, kw_only=True)
class Extent:
    """What is tried. ``holds``: these at each pair, in place of those of the points that A passes.

    ``most`` and ``seconds`` end the campaign; ``bound`` 2 holds B too. ``off``: A is scheduled out
    at its points. ``prune``: leave out points at which another trial has shown that B waits for the
    same lock as at an earlier one, and those before which A has touched nothing of B's.
    """

    holds: tuple[Hold, ...] = ()
    prune: bool = True
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
    begun: bool = False
    tried: int = 0
    pruned: int = 0
    alike: int = 0
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


class _Plan(NamedTuple):
    """The holds of a pair, and those of them that are left out: A is where it is at another one."""

    holds: tuple[Hold, ...]
    alike: frozenset[Hold] = frozenset()


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
        self._schedule: Schedule | None = None
        self._states: dict[State, int] = {}
        for pair in pairs:
            self._states[pair.state] = self._states.get(pair.state, 0) + 1
        self._lock = threading.Lock()

    @property
    def tried(self) -> int:
        """How many trials with a hold have ended."""
        return sum(each.tried for each in self.pairs)

    @property
    def done(self) -> int:
        """How many have ended, or were left out."""
        return sum(each.tried + each.pruned + each.alike for each in self.pairs)

    @property
    def known_total(self) -> int:
        """How many trials there are, as far as the points are known."""
        return sum(len(each.holds) for each in self.pairs)

    def run(self, *, guests: int) -> Iterator[tuple[PairTrials, Found | None]]:
        """Make so many trials at a time; yield each pair when something of it has ended.

        With what was found for the first time, if anything was. Raises what is no trial's fault.
        """
        extent = self._extent
        self._schedule = Schedule(len(self.pairs), most=extent.most, seconds=extent.seconds)
        yield from run_jobs(self._schedule.jobs(), self._do, at_a_time=guests, name="explore")

    def _do(self, job: Job) -> tuple[PairTrials, Found | None]:
        start_s = time.monotonic()
        trials = self.pairs[job.pair]
        try:
            found = self._prepare(trials, job) if job.hold is None else self._try(trials, job)
        finally:
            with self._lock:
                if job.hold is not None:
                    trials.left -= 1
                is_last = not trials.left
            if is_last:
                self._shorten(trials)
            with self._lock:
                trials.seconds += time.monotonic() - start_s
                if is_last:
                    self._end_pair(trials.pair.state)
            self._jobs.end(job)
        return trials, found

    @property
    def _jobs(self) -> Schedule:
        assert self._schedule is not None
        return self._schedule

    def _shorten(self, trials: PairTrials) -> None:
        """Exchange findings for ones with fewer holds, or at an earlier point.

        If those show it as often; and a rare one for one at a later point that shows it more often.
        """
        for signature, found in tuple(trials.found.items()):
            if found.hold is None:
                continue
            numbers = sorted(number for number, _ in trials.points.get(signature, ()))
            holds = [trials.holds[number] for number in numbers]
            at = holds.index(found.hold) if found.hold in holds else 0
            others = holds[:at][:_EARLIER]
            if found.hold.b is not None and found.hold.alone not in trials.holds:
                others.insert(0, found.hold.alone)
            earlier = len(others)
            others += holds[at + 1 :][:_LATER] if found.shown < found.tries else []
            for number, hold in enumerate(others):
                shown, seen = self._repeat(trials, found.wrong, hold)
                more = shown * found.tries - found.shown * _REPEATS
                if seen is not None and (more > 0 or (more == 0 and number < earlier)):
                    trials.found[signature] = replace(
                        found, hold=hold, seen=seen, shown=shown, tries=_REPEATS, example=seen
                    )
                    break

    def _end_pair(self, state: State) -> None:
        self._states[state] -= 1
        if not self._states[state]:
            self._maker.drop(state)

    def _prepare(self, trials: PairTrials, job: Job) -> Found | None:
        """Look at the orders of a pair, and find its points."""
        pair, trials.begun = trials.pair, True
        plan = self._known_plan(pair)
        if plan is not None and not self._take_known(trials, plan):
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
            plan = plan or self._plan(pair)
        except (HarnessError, KernelVerdict) as error:
            trials.error = error
            return None
        new = [
            Job(job.pair, number, hold)
            for number, hold in enumerate(plan.holds)
            if hold not in plan.alike and not self._is_kept(pair, hold)
        ]
        with self._lock:
            trials.holds, trials.alike = plan.holds, len(plan.alike)
            trials.left = len(new)
        self._jobs.add(new)
        return None

    def _plan(self, pair: Pair) -> _Plan:
        dense = self._extent.dense
        points = _steadily(lambda: self._maker.points_of(pair, dense=dense))
        alike: frozenset[Point] = frozenset()
        if self._extent.prune and not self._extent.off:
            alike = self._maker.alike(pair, dense=dense)
        if self._kept is not None:
            texts = tuple(map(str, points)), tuple(str(each) for each in points if each in alike)
            self._kept.add_points(str(pair), *texts, dense=dense)
        return self._plan_of(pair, points, alike)

    def _plan_of(self, pair: Pair, points: Sequence[Point], alike: Collection[Point]) -> _Plan:
        """Plan A's holds; with a bound of 2, each with each point of B, and the single ones."""
        holds = tuple(Hold(a=replace(point, off=self._extent.off)) for point in points)
        if self._extent.bound > 1:
            other = replace(pair, a=pair.b)
            of_b = _steadily(lambda: self._maker.points_of(other, dense=False))
            places = dict.fromkeys(point.place for point in of_b)
            holds += tuple(replace(hold, b=place) for hold in holds for place in places)
        return _Plan(holds, frozenset(hold for hold in holds if hold.a in alike))

    def _known_plan(self, pair: Pair) -> _Plan | None:
        """Return what is to be tried, if that is known without a run of A."""
        if self._extent.holds or self._kept is None:
            return _Plan(self._extent.holds) if self._extent.holds else None
        known = self._kept.points(str(pair), dense=self._extent.dense)
        if known is None:
            return None
        points, alike = ([parse_hold(text).a for text in texts] for texts in known)
        return self._plan_of(pair, points, alike if self._extent.prune else ())

    def _is_kept(self, pair: Pair, hold: Hold) -> bool:
        return self._kept is not None and self._kept.trial(str(pair), str(hold)) is not None

    def _take_known(self, trials: PairTrials, plan: _Plan) -> bool:
        """Count the trials that an earlier run has made; return whether any is left."""
        trials.holds, trials.alike = plan.holds, len(plan.alike)
        left = False
        for hold in plan.holds:
            known = self._kept.trial(str(trials.pair), str(hold)) if self._kept else None
            if known is not None:
                self._count(trials, known)
            elif hold not in plan.alike:
                left = True
        return left

    @staticmethod
    def _count(trials: PairTrials, known: KeptTrial) -> None:
        trials.tried += not known.pruned
        trials.pruned += known.pruned
        trials.not_reached += not known.reached
        trials.blocked += known.blocked

    def _try(self, trials: PairTrials, job: Job) -> Found | None:
        pair, hold = trials.pair, job.hold
        assert hold is not None
        assert trials.baselines is not None
        later = self._jobs.waiting(job.pair) if self._may_prune(hold) else ()
        then = tuple(each.hold for each in later if each.hold is not None)
        try:
            seen = _steadily(lambda: self._maker.try_hold(pair, hold, then=then))
            wrong = trials.baselines.judge(seen) if seen.reached else None
        except HarnessError as error:
            with self._lock:
                trials.failed.append(error)
            return None
        known = KeptTrial(seen.reached, seen.b_waited)
        with self._lock:
            self._count(trials, known)
        if wrong is not None:
            return self._confirm(trials, wrong, job.number, hold, seen)
        self._keep(pair, hold, known)
        self._leave_out(trials, later[: seen.also_blocked])
        return None

    def _may_prune(self, hold: Hold) -> bool:
        return self._extent.prune and hold.b is None and not (hold.a.off or hold.a.watched)

    def _leave_out(self, trials: PairTrials, jobs: Sequence[Job]) -> None:
        """Take back trials in which B would be blocked where it was in this one."""
        known = KeptTrial(reached=True, blocked=False, pruned=True)
        taken = self._jobs.cancel(jobs)
        with self._lock:
            trials.left -= len(taken)
            for _ in taken:
                self._count(trials, known)
        for job in taken:
            assert job.hold is not None
            self._keep(trials.pair, job.hold, known)

    def _keep(self, pair: Pair, hold: Hold, known: KeptTrial) -> None:
        if self._kept is not None:
            self._kept.add_trial(str(pair), str(hold), known)

    def _confirm_order(
        self, trials: PairTrials, order: Order, seen: Seen, wrong: Wrong
    ) -> Found | None:
        """Try an order again that fails by itself; without it nothing can be said of the pair."""
        shown = 0
        for _ in range(_REPEATS):
            again = failure_of(
                _steadily(lambda: self._maker.try_order(trials.pair, order, fresh=True))
            )
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
        with self._lock:
            points = trials.points.setdefault(wrong.signature, [])
            points.append((number, str(hold)))
            if wrong.signature in trials.confirmed:
                return None
            trials.confirmed.add(wrong.signature)
        shown, last = self._repeat(trials, wrong, hold)
        example = last if last is not None and last.calls else None
        # A splat has been printed, however often it comes; anything else may be the host's pace.
        if not shown and wrong.kind is not FindingKind.SPLAT:
            with self._lock:
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
                again = self._maker.try_hold(
                    trials.pair, hold, fresh=True, with_calls=repeat == _REPEATS - 1
                )
                assert trials.baselines is not None
                same = trials.baselines.judge(again) if again.reached else None
            except HarnessError:
                continue
            if same is not None and same.signature == wrong.signature:
                shown, last = shown + 1, again
        return shown, last

    def _add(self, trials: PairTrials, found: Found) -> Found:
        with self._lock:
            trials.found[found.wrong.signature] = found
        return found


def _steadily(make: Callable[[], _Made]) -> _Made:
    """Make a trial once more when the host has spoiled it."""
    try:
        return make()
    except HarnessError:
        return make()
