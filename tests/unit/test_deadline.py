# SPDX-License-Identifier: GPL-2.0-only
"""Deadlines and polling."""

from __future__ import annotations

from itertools import count

from harness.deadline import Deadline, wait_until


def test_remaining_never_falls_below_zero() -> None:
    """A late deadline is no negative time-out for a system call."""
    past = Deadline.after(-5)
    assert past.expired
    assert past.remaining_s == 0.0


def test_within_takes_the_earlier() -> None:
    """A step never gets more time than the whole has."""
    near = Deadline.after(1)
    assert near.within(1000) == near
    assert near.within(0.5).at_s < near.at_s
    assert Deadline.after(1000).within(5).remaining_s <= 5


def test_wait_asks_again_until_it_holds() -> None:
    """A wait ends with the first success and asks no further."""
    asked = count()
    assert wait_until(lambda: next(asked) == 3, Deadline.after(30), interval_s=0.001)
    assert next(asked) == 4


def test_wait_asks_before_it_looks_at_the_clock() -> None:
    """What holds already is success, even when the deadline has passed."""
    assert wait_until(lambda: True, Deadline.after(-1))


def test_wait_asks_once_more_after_expiry() -> None:
    """Success at the last moment is no time-out."""
    answers = iter([False, True])
    assert wait_until(lambda: next(answers), Deadline.after(-1))


def test_wait_gives_up() -> None:
    """A condition that never holds ends at the deadline, with False."""
    assert not wait_until(lambda: False, Deadline.after(0.01), interval_s=0.001)
