# SPDX-License-Identifier: GPL-2.0-only
"""Figures and budgets; pure."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


class Bound(StrEnum):
    """Whether a budget is an upper or a lower bound."""

    AT_MOST = "at most"
    AT_LEAST = "at least"


@dataclass(frozen=True, kw_only=True)
class Budget:
    """The bound of a figure."""

    bound: Bound
    value: float

    def holds(self, value: float) -> bool:
        """Return whether a value is within the budget."""
        return value <= self.value if self.bound is Bound.AT_MOST else value >= self.value


@dataclass(frozen=True, kw_only=True)
class Side:
    """One side of a ratio: the median of its runs, and all of them, in ``unit``."""

    name: str
    value: float
    unit: str
    runs: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One result. The value of a ratio is its first side divided by its second.

    Both sides are measured in the same run. Without a budget a figure is only reported.
    """

    id: str
    what: str
    value: float
    unit: str
    budget: Budget | None = None
    sides: tuple[Side, ...] = ()

    @property
    def met(self) -> bool | None:
        """Whether the budget is met; None without one."""
        return None if self.budget is None else self.budget.holds(self.value)

    def describe(self) -> str:
        """Return the figure, its sides and its budget in one line."""
        parts = [f"{self.what}: {_number(self.value)}{_unit(self.unit)}"]
        if self.sides:
            parts.append(
                "("
                + " against ".join(
                    f"{side.name} {_number(side.value)}{_unit(side.unit)}" for side in self.sides
                )
                + ")"
            )
        if self.budget is not None:
            verdict = "met" if self.met else "MISSED"
            limit = f"{self.budget.bound} {_number(self.budget.value)}{_unit(self.unit)}"
            parts.append(f"- budget {limit}: {verdict}")
        return " ".join(parts)


def side(name: str, unit: str, runs: Sequence[float]) -> Side:
    """Return a side whose value is the median of its runs."""
    return Side(name=name, value=statistics.median(runs), unit=unit, runs=tuple(runs))


def ratio(figure_id: str, what: str, first: Side, second: Side, budget: Budget | None) -> Figure:
    """Return the first side divided by the second as a figure."""
    return Figure(
        id=figure_id,
        what=what,
        value=first.value / second.value,
        unit="",
        budget=budget,
        sides=(first, second),
    )


def _number(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"


def _unit(unit: str) -> str:
    return f" {unit}" if unit else ""
