# SPDX-License-Identifier: GPL-2.0-only
"""The order of tests: slow ones are spread over the run, the longest first."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

T = TypeVar("T")

# Seconds of a test whose marker has no number.
_SLOW_S = 10.0
# Of the quick tests' time, when the last slow one begins: it must not be the last to end.
_LAST_SLOW_BEGINS = 0.75


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


def _slow_s(item: pytest.Item) -> float | None:
    marker = item.get_closest_marker("slow")
    if marker is None:
        return None
    return float(marker.args[0]) if marker.args else _SLOW_S


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Order the tests of a worker; all workers get the same order."""
    if hasattr(config, "workerinput"):
        items[:] = slow_spread(items, _slow_s)
