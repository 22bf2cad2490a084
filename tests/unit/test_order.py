# SPDX-License-Identifier: GPL-2.0-only
"""Slow tests begin first, spread over the workers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from harness.pytest_plugin.order import slow_first


def _blocks(items: list[str], workers: int) -> list[list[str]]:
    """What worksteal gives each worker at first."""
    blocks, left = [], list(items)
    for worker in range(workers):
        length = len(left) // (workers - worker)
        blocks.append(left[:length])
        left = left[length:]
    return blocks


def is_slow(item: str) -> bool:
    return item.startswith("slow")


def test_each_worker_begins_with_a_slow_one() -> None:
    """Of pytest-xdist's blocks each begins with one slow test; the others keep their order."""
    items = [f"quick{n}" for n in range(9)] + ["slow0", "slow1", "slow2"]
    ordered = slow_first(items, is_slow, 3)
    assert [block[0] for block in _blocks(ordered, 3)] == ["slow0", "slow1", "slow2"]
    assert [item for item in ordered if not is_slow(item)] == items[:9]


@given(st.lists(st.booleans(), max_size=60), st.integers(1, 16))
def test_nothing_is_lost_and_slow_ones_lead_each_block(kinds: list[bool], workers: int) -> None:
    """For any mix of tests and any number of workers."""
    items = [f"{'slow' if slow else 'quick'}{n}" for n, slow in enumerate(kinds)]
    ordered = slow_first(items, is_slow, workers)
    assert sorted(ordered) == sorted(items)
    if sum(kinds) <= len(items) // workers:
        for block in _blocks(ordered, workers):
            slow = [is_slow(item) for item in block]
            assert slow == sorted(slow, reverse=True)
