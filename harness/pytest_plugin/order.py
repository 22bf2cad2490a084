# SPDX-License-Identifier: GPL-2.0-only
"""The order of tests: slow ones begin first, one on each worker, and the others overlap them."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

T = TypeVar("T")


def slow_first(items: Sequence[T], is_slow: Callable[[T], bool], workers: int) -> list[T]:
    """Return the items in an order in which each worker begins with its share of the slow ones.

    pytest-xdist's worksteal gives every worker a block of the list first, all of about the same
    length, and each takes its block from the front (xdist/scheduler/worksteal.py). Otherwise the
    order stays.
    """
    slow = [item for item in items if is_slow(item)]
    quick = iter([item for item in items if not is_slow(item)])
    blocks: list[list[T]] = []
    left = len(items)
    for worker in range(workers):
        length = left // (workers - worker)
        left -= length
        block = slow[worker::workers][:length]
        block += [item for _, item in zip(range(length - len(block)), quick, strict=False)]
        blocks.append(block)
    ordered = [item for block in blocks for item in block]
    # Slow ones that did not fit into a short block, when nearly all are slow.
    seen = set(map(id, ordered))
    return ordered + [item for item in items if id(item) not in seen]


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Order the tests of a worker; all workers get the same order."""
    worker_input = getattr(config, "workerinput", None)
    if worker_input is None:
        return
    items[:] = slow_first(
        items,
        lambda item: item.get_closest_marker("slow") is not None,
        int(worker_input["workercount"]),
    )
