# SPDX-License-Identifier: GPL-2.0-only
"""The language of points, and which points of a run are tried."""

from __future__ import annotations

import pytest

from harness.errors import UsageError
from harness.tools.race.explore.passage import thinned
from harness.tools.race.explore.points import Hold, Point, parse_hold


@pytest.mark.parametrize(
    ("text", "hold"),
    [
        ("sched_fork", Hold(a=Point(function="sched_fork"))),
        ("f.isra.0+0x1c", Hold(a=Point(function="f.isra.0", offset=0x1C))),
        (
            "call of klp_copy_process in copy_process#2",
            Hold(a=Point(function="copy_process", callee="klp_copy_process", nth=2)),
        ),
        (
            "klp_complete_transition@any",
            Hold(a=Point(function="klp_complete_transition", by_any=True)),
        ),
        ("f+0x8@any@watched", Hold(a=Point(function="f", offset=8, by_any=True, watched=True))),
        (
            "sched_fork#3@any -> klp_start_transition",
            Hold(
                a=Point(function="sched_fork", nth=3, by_any=True),
                b=Point(function="klp_start_transition"),
            ),
        ),
    ],
)
def test_a_point_is_written_as_it_is_read(text: str, hold: Hold) -> None:
    """The line that shows a finding again means the same interleaving."""
    assert parse_hold(text) == hold
    assert str(hold) == text
    assert hold.bound == (2 if "->" in text else 1)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "f+12",
        "f#0",
        "call of in f",
        "call of x in f+0x4",
        "f ->",
        "-> f",
        "f g",
        "f@b",
        "f+0xZ",
    ],
)
def test_what_is_no_point_is_refused(text: str) -> None:
    """In one sentence, with the ways to write one."""
    with pytest.raises(UsageError, match="is no point") as refused:
        parse_hold(text)
    assert "call of X in FUNCTION" in str(refused.value.hint)


@pytest.mark.parametrize("more", ["@off", "@any", "@watched"])
def test_where_b_is_held_says_nothing_more(more: str) -> None:
    """It would be read, and not be done."""
    with pytest.raises(UsageError, match="where B is held has no @off, @any or @watched"):
        parse_hold(f"f -> g#2{more}")
    assert parse_hold("f -> g#2").b == Point(function="g", nth=2)


def test_the_entry_right_after_its_call_is_no_point_of_its_own() -> None:
    """A CPU stands there as it did before the call; an entry from elsewhere counts."""
    call = Point(function="f", callee="g")
    entry, later = Point(function="g"), Point(function="h")
    assert thinned((Point(function="f"), call, entry, later)) == (0, 1, 3)
    assert thinned((call, later, entry)) == (0, 1, 2)
    assert thinned((call, Point(function="g", offset=4))) == (0, 1)
