# SPDX-License-Identifier: GPL-2.0-only
"""The order of tests, by how long each is known to take: no core is to wait for the last one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from harness.behaviours.rule_tests import name_in_suite

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

T = TypeVar("T")

# Seconds of a test whose marker has no number, and of one of which nothing is known.
_SLOW_S, _QUICK_S = 10.0, 2.0
# Of the quick tests' time, when the last slow one begins: it must not be the last to end.
_LAST_SLOW_BEGINS = 0.75
# With more tests for each worker, a core waits at the end for a small part of the run.
_FEW_FOR_A_WORKER = 4


class KnownSeconds:
    """A plugin for the controller of a run: what its tests took before, by name in the suite."""

    def __init__(self, seconds: Mapping[str, float]) -> None:
        self._seconds = dict(seconds)

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Pass them to a worker, which orders the tests."""
        node.workerinput["klp_seconds"] = self._seconds


def slow_spread(items: Sequence[T], slow_s: Callable[[T], float | None]) -> list[T]:
    """Return the items in the order in which workers that take one at a time keep all cores busy.

    ``slow_s`` gives the seconds of a slow item, and None for any other. A slow test mostly waits
    for the kernel's own clock. Many of them at a time would leave the cores idle, and a long one
    at the end too: the longest begins first, and so many quick ones follow each that the slow ones
    are all begun when three quarters of the others are done. The quick ones keep their order.
    """
    known = [(slow_s(item), item) for item in items]
    slow = sorted(
        ((seconds, item) for seconds, item in known if seconds is not None),
        key=lambda pair: pair[0],
        reverse=True,
    )
    quick = [item for seconds, item in known if seconds is None]
    total = sum(seconds for seconds, _ in slow)
    ordered: list[T] = []
    begun, next_quick = 0.0, 0
    for seconds, item in slow:
        due = int(begun / total * _LAST_SLOW_BEGINS * len(quick)) if total else 0
        ordered += quick[next_quick:due]
        next_quick = max(next_quick, due)
        ordered.append(item)
        begun += seconds
    return ordered + quick[next_quick:]


def longest_first(items: Sequence[T], seconds: Callable[[T], float], workers: int) -> list[T]:
    """Return a few items in the order in which so many workers end at about the same time.

    Each is given to the worker that has least to do, the longest first. A worker of pytest-xdist
    has two tests from the start, neighbours in this order, or one where there are not two for
    each; the others go to whoever ends one.
    """
    shares: list[list[T]] = [[] for _ in range(workers)]
    taken = [0.0] * workers
    for item in sorted(items, key=seconds, reverse=True):
        least = min(range(workers), key=taken.__getitem__)
        shares[least].append(item)
        taken[least] += seconds(item)
    if len(items) < 2 * workers:
        # The first worker has its second one first.
        by_number = sorted(shares, key=len, reverse=True)
        return [share[turn] for turn in range(len(items)) for share in by_number if share[turn:]]
    while min(map(len, shares)) < 2:
        most = max(shares, key=len)
        min(shares, key=len).append(most.pop())
    pairs = [item for share in shares for item in share[:2]]
    return pairs + sorted((item for share in shares for item in share[2:]), key=seconds)[::-1]


def _slow_s(item: pytest.Item) -> float | None:
    marker = item.get_closest_marker("slow")
    if marker is None:
        return None
    return float(marker.args[0]) if marker.args else _SLOW_S


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Order the tests of a worker; all workers get the same order."""
    worker = getattr(config, "workerinput", None)
    if worker is None:
        return
    known: Mapping[str, float] = worker.get("klp_seconds", {})
    workers: int = worker["workercount"]

    def seconds(item: pytest.Item) -> float:
        taken = known.get(name_in_suite(item.nodeid))
        return taken if taken is not None else _slow_s(item) or _QUICK_S

    if known and len(items) <= _FEW_FOR_A_WORKER * workers:
        items[:] = longest_first(items, seconds, workers)
    else:
        items[:] = slow_spread(items, _slow_s)
