# SPDX-License-Identifier: GPL-2.0-only
"""Growth is told from noise, so that an hour of soak is neither passed nor failed by luck."""

from __future__ import annotations

import random

import pytest

from benchmarks.trend import trend_of


def _noise(count: int, spread: float, seed: int = 1) -> list[float]:
    chance = random.Random(seed)
    return [chance.uniform(-spread, spread) for _ in range(count)]


def test_a_leak_is_seen_in_noise() -> None:
    """One descriptor more each turn grows, also where other figures jump by five at random."""
    values = [20 + turn + noise for turn, noise in enumerate(_noise(40, 5))]
    trend = trend_of("descriptors", "", values, tolerated=4)
    assert trend.grows
    assert 25 < trend.growth < 33


@pytest.mark.parametrize("seed", range(20))
def test_noise_is_flat(seed: int) -> None:
    """What moves up and down by chance does not grow."""
    assert not trend_of("memory", "MiB", _noise(60, 50, seed), tolerated=4).grows


def test_a_start_is_no_growth() -> None:
    """What rises while the first guests start, and then stays, is flat."""
    assert not trend_of("memory", "MiB", [10, 60, 90, *[100.0] * 20], tolerated=4).grows


def test_a_single_jump_is_not_hidden_by_the_median() -> None:
    """A step in the middle that stays is growth once it is more than is tolerated."""
    values = [10.0] * 4 + [10.0, 11.0] * 8 + [30.0, 31.0] * 8
    assert trend_of("folders", "", values, tolerated=4).grows


def test_a_step_at_the_end_is_growth() -> None:
    """A level that is reached once and never left is growth, though no line rises to it."""
    assert trend_of("folders", "", [1.0] * 20 + [500.0] * 20, tolerated=2).grows


def test_few_samples_say_nothing() -> None:
    """With hardly any samples the verdict is that there is none, and is shown as such."""
    trend = trend_of("threads", "", [1, 2, 3], tolerated=0)
    assert not trend.grows
    assert "too few samples" in trend.describe()
    assert trend_of("threads", "", [], tolerated=0).samples == 1


def test_a_constant_is_flat() -> None:
    """All samples equal: no variance, no division by zero, no growth."""
    trend = trend_of("processes", "", [3.0] * 12, tolerated=0)
    assert not trend.grows
    assert trend.significance == 0
