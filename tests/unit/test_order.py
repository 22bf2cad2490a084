# SPDX-License-Identifier: GPL-2.0-only
"""Slow tests are spread over the run, the longest first."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from harness.pytest_plugin.order import slow_spread


def _slow_s(item: tuple[int, float | None]) -> float | None:
    return item[1]


def test_the_longest_begins_first_and_quick_ones_follow_each() -> None:
    """So many quick ones that the slow time and the quick time go by together."""
    items = [*((n, None) for n in range(8)), (8, 10.0), (9, 30.0)]
    ordered = slow_spread(items, _slow_s)
    # 30 of 40 slow seconds: three quarters of three quarters of the eight quick ones follow.
    assert [n for n, _ in ordered] == [9, 0, 1, 2, 3, 8, 4, 5, 6, 7]


@given(st.lists(st.none() | st.floats(0, 100), max_size=60))
def test_nothing_is_lost_and_none_slow_is_last(seconds: list[float | None]) -> None:
    """For any mix of tests: the quick ones keep their order, and some follow the last slow one."""
    items = list(enumerate(seconds))
    ordered = slow_spread(items, _slow_s)
    assert sorted(ordered, key=lambda item: item[0]) == items
    quick = [item for item in items if item[1] is None]
    assert [item for item in ordered if item[1] is None] == quick
    slow = [item[1] for item in ordered if item[1] is not None]
    assert slow == sorted(slow, reverse=True)
    if quick:
        assert ordered[-1][1] is None
