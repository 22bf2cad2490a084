# SPDX-License-Identifier: GPL-2.0-only
"""Costs from events and samples: calls, lines through samples, spread. Pure."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

from harness.observer.shared_file import Kind

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from harness.observer.shared_file import Event
    from harness.observer.task_clock import TaskClock


def call_costs(
    events: Iterable[Event],
    clock: TaskClock,
    entries: frozenset[int],
    bodies: Mapping[int, str],
) -> list[tuple[str, int]]:
    """Return which version each call of a function ran, and what that took in instructions.

    ``entries`` are where the function may begin, ``bodies`` where its versions go on behind their
    fentry. The first instruction of the function counts, that of the body does not.
    """
    entered: dict[int, int] = {}
    found = []
    for event in events:
        own = clock.at(event)
        if event.kind == Kind.ENTRY and event.where in entries:
            entered[event.task] = own
        elif event.kind == Kind.BODY and event.where in bodies and event.task in entered:
            found.append((bodies[event.where], own - entered.pop(event.task)))
    return found


def line(samples: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Return slope and height at 0 of the line through samples, by least squares.

    Raises ValueError for fewer than two different places.
    """
    if len({x for x, _ in samples}) < 2:
        raise ValueError("a line needs two different places")
    slope, intercept = statistics.linear_regression(*zip(*samples, strict=True))
    return slope, intercept


def off_line(samples: Sequence[tuple[float, float]]) -> float:
    """Return how far the sample that is farthest from the line is off, as a share of its value."""
    slope, height = line(samples)
    return max(abs(y - (slope * x + height)) / y for x, y in samples if y)


def spread(values: Sequence[float]) -> float:
    """Return how far the values are apart, as a share of their median; 0 for a single one."""
    median = statistics.median(values)
    return (max(values) - min(values)) / median if median else 0.0
