# SPDX-License-Identifier: GPL-2.0-only
"""Which interleavings are tried next, and which are left out, without a guest."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from harness.report.base import CheckOutcome
from harness.tools.race.explore.campaign import Extent
from harness.tools.race.explore.kept import KeptTrials
from harness.tools.race.explore.page import explore_page
from harness.tools.race.explore.points import Point, parse_hold
from harness.tools.race.explore.schedule import Job, Schedule
from tests.unit.explore_maker import FINE, OTHER, Maker, explored

if TYPE_CHECKING:
    from pathlib import Path

    from harness.tools.race.explore.seen import Seen

POINTS = tuple(Point(function=f"p{number}") for number in range(6))
BLOCKED = replace(FINE, b="blocked: it sleeps", also_blocked=2)
EVERY = {str(point): 1 for point in POINTS}


def hold(point: str) -> Job:
    return Job(0, int(point[1:]), parse_hold(point))


def test_points_at_which_b_is_still_blocked_are_left_out() -> None:
    """They are counted, not tried; the trial behind them is made."""
    maker = Maker(at={"p1": [BLOCKED]}, points=POINTS)
    (result,) = explored(maker)
    assert set(maker.tried) == {"p0", "p1", "p4", "p5"}
    assert (result.points, result.tried, result.pruned, result.blocked) == (6, 4, 2, 1)
    assert result.outcome is CheckOutcome.NOT_SHOWN
    assert "Left out were 2 in which B would wait for the same lock" in explore_page({}, [result])


@pytest.mark.parametrize("wrong", [replace(BLOCKED, state="other"), replace(OTHER, also_blocked=2)])
def test_nothing_is_left_out_behind_what_is_wrong(wrong: Seen) -> None:
    """It may be what A did at a later point that made it so."""
    maker = Maker(at={"p1": [wrong]}, points=POINTS)
    (result,) = explored(maker)
    assert set(maker.tried) == set(EVERY)
    assert result.pruned == 0


@pytest.mark.parametrize(
    "extent",
    [
        Extent(prune=False),
        Extent(off=True),
        Extent(holds=tuple(parse_hold(f"p{number} -> p0") for number in range(6))),
    ],
)
def test_all_points_are_tried_where_that_shows_nothing(extent: Extent) -> None:
    """On request; when A is scheduled out; and when B is held too, so that it does not wait."""
    names = [f"p{number}" for number in range(6)]
    waits = {f"{name}{end}": [BLOCKED] for name in names for end in ("", "@off", " -> p0")}
    maker = Maker(at=waits, points=POINTS)
    (result,) = explored(maker, extent=extent)
    assert (result.tried, result.pruned) == (6, 0)


def test_points_before_which_nothing_of_b_is_touched_are_left_out(tmp_path: Path) -> None:
    """There A is for B where it is at the point before; and so it is when B is held as well."""
    kept = KeptTrials(tmp_path / "trials", "one")
    maker = Maker(points=POINTS, alike=("p2", "p5"))
    (result,) = explored(maker, kept=kept)
    assert set(maker.tried) == {"p0", "p1", "p3", "p4"}
    assert (result.points, result.tried, result.alike) == (6, 4, 2)
    again = Maker()
    (result,) = explored(again, kept=KeptTrials(tmp_path / "trials", "one"))
    assert not again.orders
    assert (result.points, result.tried, result.alike) == (6, 4, 2)
    maker = Maker(points=POINTS[:3], alike=("p2",))
    (result,) = explored(maker, extent=Extent(bound=2))
    assert (result.points, result.tried, result.alike) == (12, 8, 4)


def test_an_action_that_passes_no_point(tmp_path: Path) -> None:
    """Nothing is tried then, and that is said; the time was not up."""
    for _ in range(2):
        (result,) = explored(Maker(points=()), kept=KeptTrials(tmp_path / "trials", "one"))
        assert result.outcome is CheckOutcome.NOT_RUN
        assert result.detail == "A passes none of the points"


def test_what_was_left_out_is_not_tried_when_the_campaign_goes_on(tmp_path: Path) -> None:
    """It has been seen, in the trial of another point."""
    file = tmp_path / "trials"
    explored(
        Maker(at={"p1": [BLOCKED]}, points=POINTS),
        extent=Extent(most=2),
        kept=KeptTrials(file, "one"),
    )
    again = Maker(points=POINTS)
    (result,) = explored(again, kept=KeptTrials(file, "one"))
    assert set(again.tried) == {"p4", "p5"}
    assert (result.tried, result.pruned, result.blocked) == (4, 2, 1)


def test_one_trial_of_each_pair_at_a_time() -> None:
    """A trial may show that the next one of its pair is not needed."""
    schedule = Schedule(2, most=None, seconds=None)
    jobs = schedule.jobs()
    first, second = next(jobs), next(jobs)
    assert (first.pair, second.pair) == (0, 1)
    schedule.add([hold("p1"), hold("p2"), Job(1, 0, parse_hold("p0"))])
    schedule.end(second)
    assert next(jobs).pair == 1
    # With nothing else to do, the pair's next one is tried all the same.
    assert next(jobs) == hold("p1")
    assert schedule.waiting(0) == (hold("p2"),)


def test_only_what_nobody_has_begun_is_taken_back() -> None:
    """A trial that another guest makes already goes on."""
    schedule = Schedule(1, most=None, seconds=None)
    jobs = schedule.jobs()
    next(jobs)
    schedule.add([hold("p1"), hold("p2")])
    begun = next(jobs)
    assert schedule.cancel([begun, hold("p2")]) == (hold("p2"),)
    assert schedule.waiting(0) == ()
