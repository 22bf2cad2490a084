# SPDX-License-Identifier: GPL-2.0-only
"""Where the curves and bars of the page lie, in pixels. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.tools.models.figures import seconds, spread, was_tried
from harness.tools.models.rows import LIMIT_S, SIZES, STALLS, time_id

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from harness.tools.models.results import ComparedResult

WIDTH, HEIGHT = 960, 440
LEFT, RIGHT, TOP, BOTTOM = 70, 790, 62, 392
NEVER_Y = 26
LABEL_SPACE = 17
BAR, BAR_SPACE = 11, 46
BAR_LEFT, BAR_RIGHT = 140, 800
COLOURS = 9
_MOST_TICKS = 8


@dataclass(frozen=True, kw_only=True)
class Tick:
    """A line of an axis and its text."""

    at: float
    text: str


@dataclass(frozen=True, kw_only=True)
class Point:
    """The median, and the spread from ``low_y`` to ``high_y``; both None where it never ends."""

    x: float
    y: float
    title: str
    low_y: float | None = None
    high_y: float | None = None


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A model's curve: ``colour`` is the number of a class, ``label_y`` where its name is."""

    model: str
    colour: int
    points: tuple[Point, ...]
    label_y: float

    @property
    def path(self) -> str:
        """The points as an SVG polyline has them."""
        return " ".join(f"{point.x:.1f},{point.y:.1f}" for point in self.points)


@dataclass(frozen=True, kw_only=True)
class Chart:
    """Time against the number of tasks, both logarithmic."""

    curves: tuple[Curve, ...]
    across: tuple[Tick, ...]
    up: tuple[Tick, ...]
    never: bool


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One bar of a model, with its figure; ``low`` and ``high`` are where its spread ends."""

    y: float
    width: float
    low: float
    high: float
    text: str
    kind: str


@dataclass(frozen=True, kw_only=True)
class Bars:
    """The stalls: the bars of each model, by its name and where that is."""

    models: tuple[tuple[str, float], ...]
    bars: tuple[Bar, ...]
    ticks: tuple[Tick, ...]
    height: float


def time_chart(models: Sequence[str], results: Iterable[ComparedResult]) -> Chart | None:
    """Return the curves of the models that have any; None when none has."""
    found = {
        (each.model, each.row): each
        for each in results
        if (each.values or each.never) and was_tried(each)
    }
    sizes = {size: time_id(size) for size in SIZES}
    values = [
        value for (_, row), each in found.items() if row in sizes.values() for value in each.values
    ]
    low, high = decades(values)
    curves = []
    for number, model in enumerate(models):
        points = tuple(
            _point(found[model, row], size, low, high)
            for size, row in sizes.items()
            if (model, row) in found
        )
        if points:
            colour = number % COLOURS
            curves.append(
                (points[-1].y, Curve(model=model, colour=colour, points=points, label_y=0))
            )
    if not curves:
        return None
    return Chart(
        curves=spread_labels(curves),
        across=tuple(Tick(at=_across(size), text=f"{size:,}") for size in SIZES),
        up=tuple(
            Tick(at=_up(10.0**power, low, high), text=seconds(10.0**power))
            for power in range(low, high + 1)
        ),
        never=any(each.never for (_, row), each in found.items() if row in sizes.values()),
    )


def decades(values: Sequence[float]) -> tuple[int, int]:
    """Return the powers of ten that enclose the values, at least one apart."""
    positive = [value for value in values if value > 0]
    if not positive:
        return -3, 1
    low = math.floor(math.log10(min(positive)))
    return low, max(low + 1, math.ceil(math.log10(max(positive))))


def spread_labels(curves: Sequence[tuple[float, Curve]]) -> tuple[Curve, ...]:
    """Return the curves from the top down, their names moved apart so that each can be read.

    ``curves`` come with the height at which each ends.
    """
    ordered = sorted(curves, key=lambda each: each[0])
    heights = [height for height, _ in ordered]
    for place in range(1, len(heights)):
        heights[place] = max(heights[place], heights[place - 1] + LABEL_SPACE)
    # What was pushed over the lower end moves up again.
    lowest = float(BOTTOM)
    for place in reversed(range(len(heights))):
        heights[place] = min(heights[place], lowest)
        lowest = heights[place] - LABEL_SPACE
    return tuple(
        Curve(model=curve.model, colour=curve.colour, points=curve.points, label_y=height)
        for height, (_, curve) in zip(heights, ordered, strict=True)
    )


def stall_bars(models: Sequence[str], results: Iterable[ComparedResult]) -> Bars | None:
    """Return the bars of each model that has figures, one for each kind of stall."""
    found = {(each.model, each.row): each for each in results if each.values}
    most = max(
        (max(each.values) for (_, row), each in found.items() if row in STALLS),
        default=0.0,
    )
    if not most:
        return None
    step = nice_step(most)
    full = math.ceil(most / step) * step
    names, bars = [], []
    y = 24.0
    for model in models:
        own = [found.get((model, row)) for row in STALLS]
        if not any(own):
            continue
        names.append((model, y + 1.5 * BAR))
        bars += [
            _bar(each, y + place * BAR, full) for place, each in enumerate(own) if each is not None
        ]
        y += BAR_SPACE
    ticks = tuple(
        Tick(at=_along(number * step, full), text=seconds(number * step) if number else "0")
        for number in range(round(full / step) + 1)
    )
    return Bars(models=tuple(names), bars=tuple(bars), ticks=ticks, height=y)


def nice_step(most: float) -> float:
    """Return a step of 1, 2 or 5 times a power of ten, so that few of them reach a value."""
    power = 10.0 ** math.floor(math.log10(most))
    for step in (power / 5, power / 2, power):
        if most / step <= _MOST_TICKS:
            return step
    return power * 2


def _bar(result: ComparedResult, y: float, full: float) -> Bar:
    low, high = spread(result)
    median = result.median or 0.0
    return Bar(
        y=y,
        width=_along(median, full) - BAR_LEFT,
        low=_along(low, full),
        high=_along(high, full),
        text=seconds(median),
        kind=result.row,
    )


def _point(result: ComparedResult, size: int, low: int, high: int) -> Point:
    where = f"{result.model}, {size:,} tasks"
    if result.median is None or result.never is not None:
        return Point(
            x=_across(size), y=NEVER_Y, title=f"{where}: {result.never or f'over {LIMIT_S:.0f} s'}"
        )
    least, largest = spread(result)
    return Point(
        x=_across(size),
        y=_up(result.median, low, high),
        low_y=_up(least, low, high),
        high_y=_up(largest, low, high),
        title=f"{where}: {seconds(result.median)}, from {seconds(least)} to {seconds(largest)}",
    )


def _across(size: int) -> float:
    first, last = math.log10(SIZES[0]), math.log10(SIZES[-1])
    return LEFT + (math.log10(size) - first) / (last - first) * (RIGHT - LEFT)


def _up(value: float, low: int, high: int) -> float:
    share = (math.log10(max(value, 10.0**low)) - low) / (high - low)
    return BOTTOM - share * (BOTTOM - TOP)


def _along(value: float, full: float) -> float:
    return BAR_LEFT + value / full * (BAR_RIGHT - BAR_LEFT)
