# SPDX-License-Identifier: GPL-2.0-only
"""Where the curves and bars of the page lie, in pixels. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.tools.costs.terminal import instructions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

WIDTH, HEIGHT = 560, 360
LEFT, RIGHT, TOP, BOTTOM = 78, 440, 18, 304
LABEL_SPACE = 16
BAR, ROW_SPACE, BAR_LEFT, BAR_RIGHT, BAR_WIDTH = 11, 14, 250, 850, 960
COLOURS = 6


@dataclass(frozen=True, kw_only=True)
class Tick:
    """A line of an axis and its text."""

    at: float
    text: str


@dataclass(frozen=True, kw_only=True)
class Dot:
    """A figure, with its words."""

    x: float
    y: float
    title: str


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A curve; ``colour`` is the number of a class, ``label_y`` where its name is."""

    name: str
    colour: int
    dots: tuple[Dot, ...]
    label_y: float

    @property
    def path(self) -> str:
        """The points as an SVG polyline has them."""
        return " ".join(f"{dot.x:.1f},{dot.y:.1f}" for dot in self.dots)


@dataclass(frozen=True, kw_only=True)
class Panel:
    """Curves over one quantity; both axes are logarithmic."""

    title: str
    across: str
    curves: tuple[Curve, ...]
    columns: tuple[Tick, ...]
    rows: tuple[Tick, ...]


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One bar and its figure."""

    y: float
    width: float
    colour: int
    text: str
    title: str


@dataclass(frozen=True, kw_only=True)
class Bars:
    """Groups of bars, by their names and where those are."""

    names: tuple[tuple[str, float], ...]
    bars: tuple[Bar, ...]
    ticks: tuple[Tick, ...]
    height: float


def panels(
    series: Mapping[str, Mapping[str, Sequence[tuple[float, float]]]], *, across: str
) -> tuple[Panel, ...]:
    """Return a panel for each title, of the curves by their names, all with the same axes.

    What is 0 or less has no place on such an axis, and is left out.
    """
    kept = {
        title: {
            name: [(x, y) for x, y in points if x > 0 and y > 0] for name, points in curves.items()
        }
        for title, curves in series.items()
    }
    every = [point for curves in kept.values() for points in curves.values() for point in points]
    if not every:
        return ()
    wide = _Axis([x for x, _ in every], LEFT, RIGHT)
    high = _Axis([y for _, y in every], BOTTOM, TOP)
    return tuple(
        Panel(
            title=title,
            across=across,
            curves=_curves(curves, wide, high, across),
            columns=wide.ticks(lambda value: f"{value:,.0f}"),
            rows=high.ticks(instructions),
        )
        for title, curves in kept.items()
        if any(curves.values())
    )


class _Axis:
    """A logarithmic axis in whole decades."""

    def __init__(self, values: Iterable[float], start: float, end: float) -> None:
        found = list(values)
        self._low = math.floor(math.log10(min(found)))
        self._high = max(self._low + 1, math.ceil(math.log10(max(found))))
        self._start, self._end = start, end

    def at(self, value: float) -> float:
        return self._at(math.log10(value))

    def _at(self, power: float) -> float:
        share = (power - self._low) / (self._high - self._low)
        return self._start + share * (self._end - self._start)

    def ticks(self, text: Callable[[float], str]) -> tuple[Tick, ...]:
        powers = range(self._low, self._high + 1)
        return tuple(Tick(at=self._at(power), text=text(10.0**power)) for power in powers)


def _curves(
    series: Mapping[str, Sequence[tuple[float, float]]], wide: _Axis, high: _Axis, across: str
) -> tuple[Curve, ...]:
    made = []
    for number, (name, points) in enumerate(series.items()):
        if not points:
            continue
        dots = tuple(
            Dot(
                x=wide.at(x),
                y=high.at(y),
                title=f"{name}, {x:,.0f} {across}: {instructions(y)} instructions",
            )
            for x, y in points
        )
        made.append((dots[-1].y, name, number % COLOURS, dots))
    made.sort()
    heights = spread([y for y, *_ in made])
    return tuple(
        Curve(name=name, colour=colour, dots=dots, label_y=height)
        for (_, name, colour, dots), height in zip(made, heights, strict=True)
    )


def spread(heights: Sequence[float]) -> list[float]:
    """Return sorted heights moved apart, so that a name at each can be read."""
    found = list(heights)
    for place in range(1, len(found)):
        found[place] = max(found[place], found[place - 1] + LABEL_SPACE)
    lowest = float(BOTTOM)
    # What was pushed over the lower end moves up again.
    for place in reversed(range(len(found))):
        found[place] = min(found[place], lowest)
        lowest = found[place] - LABEL_SPACE
    return found


def bars(rows: Mapping[str, Mapping[str, float]], names: Sequence[str]) -> Bars | None:
    """Return a group of bars for each row, one for each of the names; None without a figure.

    The axis is linear from 0.
    """
    most = max((value for row in rows.values() for value in row.values()), default=0.0)
    if not most:
        return None
    step = nice_step(most)
    full = math.ceil(most / step) * step
    heads, made = [], []
    y = 22.0
    for what, values in rows.items():
        own = [name for name in names if name in values]
        heads.append((what, y + len(own) * BAR / 2))
        for place, name in enumerate(own):
            value = values[name]
            made.append(
                Bar(
                    y=y + place * BAR,
                    width=value / full * (BAR_RIGHT - BAR_LEFT),
                    colour=names.index(name) % COLOURS,
                    text=instructions(value),
                    title=f"{name}, {what}: {instructions(value)} instructions",
                )
            )
        y += len(own) * BAR + ROW_SPACE
    ticks = tuple(
        Tick(
            at=BAR_LEFT + number * step / full * (BAR_RIGHT - BAR_LEFT),
            text=instructions(number * step),
        )
        for number in range(round(full / step) + 1)
    )
    return Bars(names=tuple(heads), bars=tuple(made), ticks=ticks, height=y)


def nice_step(most: float) -> float:
    """Return a step of 1, 2 or 5 times a power of ten, so that few of them reach a value."""
    power = 10.0 ** math.floor(math.log10(most))
    return next(step for step in (power / 5, power / 2, power) if most / step <= 10)
