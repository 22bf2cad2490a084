# SPDX-License-Identifier: GPL-2.0-only
"""Campaigns of interleavings whose trials give what a test says."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from harness.errors import HarnessError, KernelSplat
from harness.tools.race.explore.campaign import Campaign, Extent
from harness.tools.race.explore.pairs import find_pairs
from harness.tools.race.explore.points import Point
from harness.tools.race.explore.report import result_of
from harness.tools.race.explore.results import ExploreCall
from harness.tools.race.explore.seen import Seen

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from harness.tools.race.explore.kept import KeptTrials
    from harness.tools.race.explore.pairs import Pair, State
    from harness.tools.race.explore.points import Hold
    from harness.tools.race.explore.results import ExploreResult
    from harness.tools.race.explore.seen import Order
    from harness.tools.race.known_bugs import KnownBug

POINTS = tuple(Point(function=name) for name in ("first", "second", "third"))
FINE = Seen(plan="", reached=True, b="done", ended=True, a_errors=(0,), b_errors=(0,), state="all")
SPLAT = replace(FINE, ended=False, verdict=KernelSplat("splat in the kernel log: WARNING in f"))
OTHER = replace(FINE, state="other")
CALLS = (
    ExploreCall(by="A", cpu=0, function="first", at_ms=1),
    ExploreCall(by="B", cpu=1, function="in_b", at_ms=2),
    ExploreCall(by="A", cpu=0, function="later", at_ms=3),
)


class Maker:
    """Gives what a test says, by point; everything else is fine."""

    def __init__(
        self,
        *,
        at: Mapping[str, Sequence[Seen | HarnessError]] | None = None,
        order: Callable[[Order], Seen] = lambda _: FINE,
        points: Sequence[Point] = POINTS,
        alike: Sequence[str] = (),
    ) -> None:
        self.at = {name: list(each) for name, each in (at or {}).items()}
        self.order = order
        self.points = tuple(points)
        self.alike_points = alike
        self.tried: Counter[str] = Counter()
        self.fresh: Counter[str] = Counter()
        self.orders: list[Order] = []
        self.dropped: list[State] = []

    def points_of(self, pair: Pair, *, dense: bool) -> tuple[Point, ...]:
        return self.points

    def alike(self, pair: Pair, *, dense: bool) -> frozenset[Point]:
        return frozenset(point for point in self.points if str(point) in self.alike_points)

    def try_hold(
        self,
        pair: Pair,
        hold: Hold,
        *,
        then: Sequence[Hold] = (),
        fresh: bool = False,
        with_calls: bool = False,
    ) -> Seen:
        name = str(hold)
        self.tried[name] += 1
        self.fresh[name] += fresh
        given = self.at.get(name, [FINE])
        seen = given.pop(0) if len(given) > 1 else given[0]
        if isinstance(seen, HarnessError):
            raise seen
        calls = CALLS if with_calls else ()
        also = min(seen.also_blocked, len(then))
        return replace(seen, plan=name, calls=calls, calls_before=len(calls[:1]), also_blocked=also)

    def try_order(self, pair: Pair, order: Order, *, fresh: bool = False) -> Seen:
        self.orders.append(order)
        return replace(self.order(order), plan=" ".join(order), b=None)

    def drop(self, state: State) -> None:
        self.dropped.append(state)


def explored(
    maker: Maker,
    *names: str,
    extent: Extent = Extent(),  # noqa: B008 - it is frozen
    bugs: Sequence[KnownBug] = (),
    excuse: bool = False,
    kept: KeptTrials | None = None,
) -> list[ExploreResult]:
    campaign = Campaign(find_pairs(names or ("fork-load",)), extent, maker, kept)
    for _ in campaign.run(guests=1):
        pass
    return [
        result_of(each, bugs, words=("--kernel=6.1",), excuse_expected=excuse)
        for each in campaign.pairs
    ]
