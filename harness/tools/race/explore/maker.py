# SPDX-License-Identifier: GPL-2.0-only
"""What a campaign wants of whoever makes its trials."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.tools.race.explore.pairs import Pair, State
    from harness.tools.race.explore.points import Hold, Point
    from harness.tools.race.explore.seen import Order, Seen


class Maker(Protocol):
    """What makes trials. Implements: `trial.Trials`."""

    def points_of(self, pair: Pair, *, dense: bool) -> tuple[Point, ...]:
        """Return the points that A passes."""

    def alike(self, pair: Pair, *, dense: bool) -> frozenset[Point]:
        """Return which of them are for B as the one before, as far as that is known."""

    def try_hold(
        self,
        pair: Pair,
        hold: Hold,
        *,
        then: Sequence[Hold] = (),
        fresh: bool = False,
        with_calls: bool = False,
    ) -> Seen:
        """Make a trial with a hold. ``then``: later ones; look at which of them B still waits.

        ``fresh``: in a guest that has made no trial before.
        """

    def try_order(self, pair: Pair, order: Order, *, fresh: bool = False) -> Seen:
        """Make a trial of a sequential order."""

    def drop(self, state: State) -> None:
        """No pair needs that state any more."""
