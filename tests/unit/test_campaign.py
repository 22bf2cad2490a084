# SPDX-License-Identifier: GPL-2.0-only
"""Campaigns, with trials that are made up: which are made, when they end, what they say."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from harness.errors import GuestHang, HarnessError, RaceShown
from harness.tools.race.campaign import Campaign, Extent, Tally, Trial
from harness.tools.race.catalogue import CATALOGUE
from harness.tools.race.statistics import wilson

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.tools.race.reproducer import Reproducer

FIRST, SECOND = CATALOGUE[:2]
_PATIENCE_S = 30.0


def quiet(race: Reproducer, seed: int) -> Trial:
    return Trial(race=race, seed=seed, seconds=0.0)


def hit_at(*seeds: int) -> Callable[[Reproducer, int], Trial]:
    def try_one(race: Reproducer, seed: int) -> Trial:
        shown = RaceShown("it is there") if seed in seeds else None
        return Trial(race=race, seed=seed, seconds=0.0, shown=shown)

    return try_one


def seeds_of(tally: Tally) -> list[int]:
    return [trial.seed for trial in tally.trials]


def test_every_trial_has_its_own_seed() -> None:
    campaign = Campaign([FIRST, SECOND], Extent(seed=7, trials=3), quiet)
    assert len(list(campaign.run())) == 6
    assert [seeds_of(tally) for tally in campaign.tallies.values()] == [[7, 8, 9], [7, 8, 9]]


def test_reproducers_take_turns() -> None:
    campaign = Campaign([FIRST, SECOND], Extent(seed=0, trials=2), quiet)
    assert [trial.race.name for trial in campaign.run()] == [FIRST.name, SECOND.name] * 2


def test_one_hit_is_enough() -> None:
    campaign = Campaign([FIRST, SECOND], Extent(seed=0, trials=5), hit_at(1))
    list(campaign.run())
    for tally in campaign.tallies.values():
        assert seeds_of(tally) == [0, 1]
        assert tally.first_hit_s is not None


def test_it_goes_on_when_asked_to() -> None:
    campaign = Campaign([FIRST], Extent(seed=0, trials=5, go_on=True), hit_at(1, 3))
    list(campaign.run())
    tally = campaign.tallies[FIRST.name]
    assert [trial.seed for trial in tally.hits] == [1, 3]
    assert tally.judged == 5


def test_a_failure_of_another_kind_ends_it_too() -> None:
    def hang(race: Reproducer, seed: int) -> Trial:
        return Trial(race=race, seed=seed, seconds=0.0, failed=GuestHang("hangs"))

    campaign = Campaign([FIRST], Extent(seed=0, trials=5), hang)
    assert len(list(campaign.run())) == 1


def test_a_trial_that_the_host_ended_is_no_trial() -> None:
    tally = Tally(FIRST)
    tally.trials = [
        Trial(race=FIRST, seed=0, seconds=0.0, error=HarnessError("QEMU was killed")),
        Trial(race=FIRST, seed=1, seconds=0.0),
    ]
    assert tally.judged == 1
    assert tally.interval() == wilson(0, 1)


def test_time_ends_a_campaign_without_a_number_of_trials() -> None:
    campaign = Campaign([FIRST], Extent(seed=0, trials=None, budget_s=0.05), quiet)
    assert len(list(campaign.run())) >= 1


def test_trials_overlap() -> None:
    together = threading.Barrier(3, timeout=_PATIENCE_S)

    def wait_for_others(race: Reproducer, seed: int) -> Trial:
        together.wait()
        return quiet(race, seed)

    campaign = Campaign([FIRST], Extent(seed=0, trials=3, guests=3), wait_for_others)
    assert sorted(trial.seed for trial in campaign.run()) == [0, 1, 2]


def test_what_is_no_trial_is_raised() -> None:
    def bug(race: Reproducer, seed: int) -> Trial:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(Campaign([FIRST], Extent(seed=0), bug).run())


@pytest.mark.parametrize(
    ("hits", "trials", "low", "high"),
    [
        # R: binom::binom.confint(x, n, method = "wilson")
        (0, 0, 0.0, 1.0),
        (0, 20, 0.0, 0.1611),
        (20, 20, 0.8389, 1.0),
        (1, 10, 0.0179, 0.4042),
        (50, 100, 0.4038, 0.5962),
    ],
)
def test_wilson(hits: int, trials: int, low: float, high: float) -> None:
    assert wilson(hits, trials) == pytest.approx((low, high), abs=5e-5)


def test_impossible_counts_are_refused() -> None:
    with pytest.raises(ValueError, match="3 hits in 2 trials"):
        wilson(3, 2)
