# SPDX-License-Identifier: GPL-2.0-only
"""Slow tests are spread over a long run, and few ones shared out by how long they took before."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from xdist.scheduler import LoadScheduling  # type: ignore[import-untyped]

from harness.pytest_plugin.order import (
    KnownSeconds,
    longest_first,
    pytest_collection_modifyitems,
    slow_spread,
)

if TYPE_CHECKING:
    from collections.abc import Sequence


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


class Worker:
    """What xdist's scheduler knows of a worker, which ends one test after the other."""

    def __init__(self, number: int) -> None:
        self.gateway = SimpleNamespace(id=f"gw{number}")
        self.shutting_down = False
        self.queue: list[int] = []
        self.free_at = 0.0

    def send_runtest_some(self, indices: Sequence[int]) -> None:
        """Take more tests."""
        self.queue += indices

    def shutdown(self) -> None:
        """Take no more."""
        self.shutting_down = True


def end_of(seconds: Sequence[float], workers: int) -> float:
    """Return when the last test ends that xdist gives to so many workers, in this order."""
    options = {"maxschedchunk": 1, "numprocesses": None, "tx": [f"{workers}*popen"], "dist": "load"}
    config: Any = SimpleNamespace(getoption=options.get, getvalue=options.get)
    scheduler = LoadScheduling(config)
    nodes: list[Any] = [Worker(number) for number in range(workers)]
    for node in nodes:
        scheduler.add_node(node)
        scheduler.add_node_collection(node, [str(n) for n in range(len(seconds))])
    scheduler.schedule()
    while any(node.queue for node in nodes):
        node = min(
            (node for node in nodes if node.queue),
            key=lambda node: node.free_at + seconds[node.queue[0]],
        )
        test = node.queue.pop(0)
        node.free_at += seconds[test]
        scheduler.mark_test_complete(node, test)
    return max(float(node.free_at) for node in nodes)


@given(st.lists(st.floats(0.1, 9), max_size=40), st.integers(2, 9))
def test_workers_end_at_about_the_same_time(seconds: list[float], workers: int) -> None:
    """At most a third above what is possible, and one test: each worker holds one for later.

    The third is the bound of giving the longest first to whoever is free (Graham, 1969).
    """
    ordered = longest_first(seconds, float, workers)
    assert sorted(ordered) == sorted(seconds)
    if not seconds:
        return
    least = max(*seconds, sum(seconds) / workers)
    second = sorted(seconds, reverse=True)[workers : workers + 1] or [0.0]
    assert end_of(ordered, workers) <= 4 / 3 * least + second[0] + 1e-6


def test_the_longest_has_the_shortest_behind_it() -> None:
    """Eight workers and nineteen tests: hardly longer than the longest of them takes."""
    quick = [*[2.6] * 4, *[1.8] * 6, 0.3, 0.2]
    longest, *others = seconds = [7.0, 4.5, 4.0, 4.0, 3.8, 3.6, 2.8, *quick]
    assert end_of(longest_first(seconds, float, 8), 8) == 7.2
    assert end_of([*others, longest], 8) > 9


class Item:
    """A test as pytest has collected it."""

    def __init__(self, nodeid: str, slow: tuple[float, ...] | None = None) -> None:
        self.nodeid = nodeid
        self._slow = slow

    def get_closest_marker(self, name: str) -> Any:
        """Return its marker ``slow``."""
        assert name == "slow"
        return SimpleNamespace(args=self._slow) if self._slow is not None else None


def collected(items: list[Item], workerinput: dict[str, Any] | None) -> list[str]:
    """Return the names in the order in which a process with that input has them."""
    config: Any = SimpleNamespace()
    if workerinput is not None:
        config.workerinput = workerinput
    tests: list[Any] = list(items)
    pytest_collection_modifyitems(config, tests)
    return [item.nodeid.rpartition("::")[2] for item in tests]


def test_what_is_known_of_a_run_orders_its_tests() -> None:
    """Records go before the marker, and that before a guess; without any they are spread."""
    folder = "tests/behaviours/transition/test_x.py"
    items = [
        Item(f"{folder}::quick"),
        Item(f"{folder}::marked", (5.0,)),
        Item(f"{folder}::known"),
        Item(f"{folder}::new"),
    ]
    names = ["quick", "marked", "known", "new"]
    assert collected(items, None) == names
    node: Any = SimpleNamespace(workerinput={"workercount": 2})
    assert collected(items, node.workerinput) == ["marked", "quick", "known", "new"]
    known = {"transition/test_x.py::known": 9.0, "transition/test_x.py::quick": 0.1}
    KnownSeconds(known).pytest_configure_node(node)
    # known and quick are one worker's, marked and new the other's.
    assert collected(items, node.workerinput) == ["known", "quick", "marked", "new"]
    # Of many tests for each worker the slow ones are spread.
    assert collected(items * 3, node.workerinput)[0] == "marked"


@pytest.mark.parametrize("tests", [3, 4, 5])
def test_too_few_for_two_each(tests: int) -> None:
    """The longest ones run alone."""
    seconds = [9.0, 8.0, 7.0, 2.0, 1.0][:tests]
    assert end_of(longest_first(seconds, float, 3), 3) == 9.0
