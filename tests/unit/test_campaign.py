# SPDX-License-Identifier: GPL-2.0-only
"""Campaigns, with trials that are made up: which are made, when they end, what they say."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.errors import GuestHang, HarnessError, RaceShown
from harness.tools.race.campaign import Campaign, Extent, ReproducerTrials, Trial
from harness.tools.race.catalogue import CATALOGUE
from harness.tools.race.statistics import wilson

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.tools.race.reproducer import Reproducer

FIRST, SECOND = CATALOGUE[:2]


def quiet(race: Reproducer, seed: int) -> Trial:
    return Trial(race=race, seed=seed, seconds=0.0)


def hit_at(*seeds: int) -> Callable[[Reproducer, int], Trial]:
    def try_one(race: Reproducer, seed: int) -> Trial:
        shown = RaceShown("it is there") if seed in seeds else None
        return Trial(race=race, seed=seed, seconds=0.0, ended_by=shown)

    return try_one


def seeds_of(found: ReproducerTrials) -> list[int]:
    return [trial.seed for trial in found.trials]


def test_every_trial_has_its_own_seed() -> None:
    """The seeds of each reproducer count up from the campaign's."""
    campaign = Campaign([FIRST, SECOND], Extent(seed=7, trials=3))
    assert len(list(campaign.run(quiet, guests=1))) == 6
    assert [seeds_of(found) for found in campaign.found.values()] == [[7, 8, 9], [7, 8, 9]]


def test_reproducers_take_turns() -> None:
    """No reproducer waits for the last trial of another."""
    campaign = Campaign([FIRST, SECOND], Extent(seed=0, trials=2))
    assert [trial.race.name for trial in campaign.run(quiet, guests=1)] == [
        FIRST.name,
        SECOND.name,
    ] * 2


def test_one_hit_is_enough() -> None:
    """A reproducer that has shown its race is not tried again."""
    campaign = Campaign([FIRST, SECOND], Extent(seed=0, trials=5))
    list(campaign.run(hit_at(1), guests=1))
    for found in campaign.found.values():
        assert seeds_of(found) == [0, 1]
        assert found.first_hit_s is not None


def test_it_goes_on_when_asked_to() -> None:
    """With --go-on all trials are made, and all hits are kept."""
    campaign = Campaign([FIRST], Extent(seed=0, trials=5, go_on=True))
    list(campaign.run(hit_at(1, 3), guests=1))
    found = campaign.found[FIRST.name]
    assert [trial.seed for trial in found.hits] == [1, 3]
    assert found.judged == 5


def test_a_failure_of_another_kind_ends_it_too() -> None:
    """A kernel that fails in another way is not tried again either."""

    def hang(race: Reproducer, seed: int) -> Trial:
        return Trial(race=race, seed=seed, seconds=0.0, ended_by=GuestHang("hangs"))

    campaign = Campaign([FIRST], Extent(seed=0, trials=5))
    assert len(list(campaign.run(hang, guests=1))) == 1


def test_a_trial_that_the_host_ended_is_no_trial() -> None:
    """The rate of hits counts only the trials that say something about the kernel."""
    found = ReproducerTrials(FIRST)
    found.trials = [
        Trial(race=FIRST, seed=0, seconds=0.0, ended_by=HarnessError("QEMU was killed")),
        Trial(race=FIRST, seed=1, seconds=0.0),
    ]
    assert found.judged == 1
    assert found.interval() == wilson(0, 1)


def test_time_ends_a_campaign_without_a_number_of_trials() -> None:
    """With --seconds alone a campaign ends, and has tried something."""
    campaign = Campaign([FIRST], Extent(seed=0, trials=None, budget_s=0.05))
    assert len(list(campaign.run(quiet, guests=1))) >= 1


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
    """The interval is that of R's binom package, also where no trial or every trial was a hit."""
    assert wilson(hits, trials) == pytest.approx((low, high), abs=5e-5)


def test_impossible_counts_are_refused() -> None:
    """More hits than trials are a bug of the caller, and are not turned into a rate."""
    with pytest.raises(ValueError, match="3 hits in 2 trials"):
        wilson(3, 2)
