# SPDX-License-Identifier: GPL-2.0-only
"""Campaigns of interleavings without a guest: findings, repetitions, counts."""

from __future__ import annotations

import errno
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from harness.errors import GuestStarved, ModuleRefused, UsageError
from harness.report.base import CheckOutcome
from harness.tools.race.explore.campaign import Campaign, Extent
from harness.tools.race.explore.kept import KeptTrials
from harness.tools.race.explore.page import call_rows, explore_page
from harness.tools.race.explore.pairs import find_pairs
from harness.tools.race.explore.points import parse_hold
from harness.tools.race.explore.report import result_of
from harness.tools.race.explore.results import FindingKind
from harness.tools.race.explore.seen import Move
from harness.tools.race.known_bugs import KnownBug
from tests.unit.explore_maker import FINE, OTHER, POINTS, SPLAT, Maker, explored

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from harness.tools.race.explore.pairs import Pair
    from harness.tools.race.explore.points import Hold
    from harness.tools.race.explore.seen import Order, Seen


def test_what_an_order_gives_is_no_finding() -> None:
    """Each point is tried once, after both orders of A and B."""
    maker = Maker(at={"second": [replace(FINE, b="blocked in f")], "third": [OTHER]})
    maker.order = lambda order: OTHER if order[0] is Move.B else FINE
    (result,) = explored(maker)
    assert result.outcome is CheckOutcome.NOT_SHOWN
    assert (result.points, result.tried, result.blocked, result.not_reached) == (3, 3, 1, 0)
    assert maker.orders == [(Move.A, Move.B), (Move.B, Move.A)]
    assert maker.tried.total() == 3


def test_what_no_order_gives_is_tried_again_and_shown() -> None:
    """The finding has its first point, all points, the calls, and the line that shows it again."""
    maker = Maker(at={"second": [OTHER], "third": [OTHER]})
    (result,) = explored(maker)
    (finding,) = result.findings
    assert result.outcome is CheckOutcome.SHOWN
    assert finding.kind is FindingKind.OUTCOME
    assert (finding.at, finding.points) == ("second", ("second", "third"))
    assert (finding.shown, finding.tries) == (4, 4)
    assert maker.tried == {"first": 1, "second": 4, "third": 1}
    assert +maker.fresh == {"second": 3}
    assert finding.again == "klp-harness race explore fork-load --kernel=6.1 --at second"
    assert "A B: A 0, B 0, all" in finding.allowed
    assert [row.phase for row in call_rows(finding)] == ["before", "held", "after"]
    page = explore_page({"kernel": "6.1"}, [result])
    assert "A is held at second" in page
    assert "in_b" in page


def test_a_finding_needs_no_more_holds_than_show_it() -> None:
    """With two holds it is tried with that of A alone as well, and that is what is reported."""
    hold = parse_hold("second -> first")
    maker = Maker(at={str(hold): [OTHER], "second": [OTHER]})
    (result,) = explored(maker, extent=Extent(holds=(hold,)))
    (finding,) = result.findings
    assert (finding.at, finding.shown, finding.tries) == ("second", 3, 3)
    assert finding.again.endswith("--at second")
    maker = Maker(at={str(hold): [OTHER]})
    (result,) = explored(maker, extent=Extent(holds=(hold,)))
    assert result.findings[0].at == "second -> first"
    assert maker.tried["second"] == 3


@pytest.mark.parametrize(
    ("at_second", "reported", "shown", "tries"),
    [([OTHER], "second", 3, 3), ([OTHER, OTHER, FINE, OTHER], "third", 4, 4)],
)
def test_an_earlier_point_is_reported(
    at_second: list[Seen], reported: str, shown: int, tries: int
) -> None:
    """The one at which it was found first is later, when several guests work.

    Unless the earlier one shows it less often.
    """
    was_found = threading.Event()

    class Slow(Maker):
        def try_hold(
            self,
            pair: Pair,
            hold: Hold,
            *,
            then: Sequence[Hold] = (),
            fresh: bool = False,
            with_calls: bool = False,
        ) -> Seen:
            if str(hold) == "second":
                assert was_found.wait(60)
            seen = super().try_hold(pair, hold, fresh=fresh, with_calls=with_calls)
            if self.tried["third"] == 4:
                was_found.set()
            return seen

    campaign = Campaign(
        find_pairs(("fork-load",)), Extent(), Slow(at={"second": at_second, "third": [OTHER]})
    )
    first = [found.hold for _, found in campaign.run(guests=2) if found is not None]
    assert [str(hold) for hold in first] == ["third"]
    (finding,) = result_of(campaign.pairs[0], (), words=()).findings
    assert (finding.at, finding.points) == (reported, ("second", "third"))
    assert (finding.shown, finding.tries) == (shown, tries)


def test_a_later_point_is_reported_that_shows_a_rare_finding_more_often() -> None:
    """The earliest one showed it in two of four trials, the next one in one of three."""
    rare = {"first": [OTHER, OTHER, FINE], "second": [OTHER, OTHER, FINE]}
    (result,) = explored(Maker(at={**rare, "third": [OTHER]}))
    (finding,) = result.findings
    assert (finding.at, finding.shown, finding.tries) == ("third", 3, 3)
    (result,) = explored(Maker(at=rare))
    (finding,) = result.findings
    assert (finding.at, finding.shown, finding.tries) == ("first", 2, 4)


def test_what_is_not_shown_again_is_counted_alone() -> None:
    """An outcome, or a hang, that comes once may be the host's; it is no finding."""
    maker = Maker(at={"second": [OTHER, FINE]})
    (result,) = explored(maker)
    assert result.outcome is CheckOutcome.NOT_SHOWN
    assert (result.unsteady, result.findings) == (1, ())


def test_a_splat_that_comes_once_is_a_finding() -> None:
    """It was printed; that it is rare is said."""
    (result,) = explored(Maker(at={"second": [SPLAT, FINE]}))
    (finding,) = result.findings
    assert finding.kind is FindingKind.SPLAT
    assert (finding.shown, finding.tries) == (1, 4)


def test_a_splat_of_a_guest_with_earlier_trials() -> None:
    """One of these may have caused it, when fresh guests do not show it."""
    seen = replace(SPLAT, earlier=("fork-load at 'f'", "fork-load at 'g'"))
    (result,) = explored(Maker(at={"second": [seen, FINE]}))
    assert result.findings[0].details[-1] == (
        "only in a guest with 2 trials before it, the last: fork-load at 'g'"
    )
    (result,) = explored(Maker(at={"second": [seen]}))
    assert result.findings[0].details == ()


def test_a_hang_after_the_hold_is_a_finding() -> None:
    """Something that does not end, in each of four trials."""
    (result,) = explored(Maker(at={"first": [replace(FINE, ended=False, stuck="B does not end")]}))
    (finding,) = result.findings
    assert (finding.kind, finding.message) == (FindingKind.STUCK, "B does not end")


def test_threads_have_no_numbers_in_a_finding() -> None:
    """The same finding has another thread's number in each trial."""
    seen = [
        replace(FINE, problems=(f"not settled: patch state 0: 1 threads ({tid})",))
        for tid in (71, 72, 73, 74)
    ]
    (result,) = explored(Maker(at={"first": seen}))
    (finding,) = result.findings
    assert finding.message == "a thread has a patch state, and there is no transition"
    assert (finding.kind, finding.shown) == (FindingKind.BROKEN, 4)
    opened = replace(
        FINE, problems=("not settled: klp_x is in transition, patch state 0: 1 threads (7)",)
    )
    (result,) = explored(Maker(at={"first": [opened]}))
    assert result.findings[0].message == "not settled: klp_x is in transition"


def test_who_was_refused_for_a_moment_was_not_there() -> None:
    """EBUSY is legal whatever the orders give, when the rest is as if B had not been tried."""
    busy = replace(FINE, b_errors=(errno.EBUSY,), state="A alone")
    maker = Maker(at={"second": [busy], "third": [replace(busy, state="strange")]})
    maker.order = lambda order: (
        replace(FINE, b_errors=(), state="A alone") if Move.B not in order else FINE
    )
    (result,) = explored(maker)
    assert [finding.at for finding in result.findings] == ["third"]


def test_a_last_step_that_was_refused_was_not_there() -> None:
    """A module cannot be unloaded while a transition waits for the thread that is held.

    The steps before count: with their results, and with the state that they leave.
    """
    gave_up = replace(FINE, b_errors=(0, errno.EAGAIN), state="disabled, not unloaded")
    maker = Maker(
        at={
            "first": [replace(gave_up, b_errors=(errno.EINVAL, errno.EAGAIN))],
            "second": [gave_up],
            "third": [replace(gave_up, state="strange")],
        }
    )
    maker.order = lambda order: (
        replace(FINE, b_errors=(0,), state="disabled, not unloaded")
        if order.count(Move.B) == 1
        else FINE
    )
    (result,) = explored(maker, "fork-unload")
    assert [finding.at for finding in result.findings] == ["first", "third"]


def test_both_may_be_refused() -> None:
    """A finds the transition that B has begun; B cannot unload while A stands in the kernel."""
    refused = replace(FINE, a_errors=(errno.EBUSY,), b_errors=(0, errno.EAGAIN))
    maker = Maker(
        at={
            "second": [replace(refused, state="disabled alone")],
            "third": [replace(refused, state="strange")],
        }
    )
    maker.order = lambda order: (
        replace(FINE, a_errors=(), b_errors=(0,), state="disabled alone")
        if order == (Move.B,)
        else FINE
    )
    (result,) = explored(maker, "fork-unload")
    assert [finding.at for finding in result.findings] == ["third"]


def test_an_attribute_that_goes_meanwhile() -> None:
    """Whoever has its file open gets another errno than who comes later; the rest is the same."""
    gone = replace(FINE, b_errors=(errno.ENOENT,), state="replaced")
    maker = Maker(
        at={
            "first": [replace(gone, b_errors=(errno.EINVAL,))],
            "second": [replace(gone, b_errors=(errno.EPERM,))],
            "third": [replace(gone, b_errors=(errno.ENODEV,), state="strange")],
        }
    )
    maker.order = lambda order: gone if Move.SETTLE in order else FINE
    (result,) = explored(maker)
    assert [finding.at for finding in result.findings] == ["second", "third"]
    # The other way round it is wrong: nothing has gone.
    maker = Maker(at={"first": [gone]})
    maker.order = lambda _: replace(gone, b_errors=(errno.EINVAL,))
    assert explored(maker)[0].findings


def test_a_step_on_what_has_gone_and_one_that_is_refused() -> None:
    """B's write comes too late, and its unload waits for A, which stands in the kernel."""
    gone = replace(FINE, b_errors=(errno.EINVAL, errno.EAGAIN), state="not unloaded")
    maker = Maker(at={"second": [gone], "third": [replace(gone, state="strange")]})
    maker.order = lambda order: (
        replace(FINE, b_errors=(errno.ENOENT,), state="not unloaded")
        if order == (Move.A, Move.SETTLE, Move.B)
        else FINE
    )
    (result,) = explored(maker, "fork-unload")
    assert [finding.at for finding in result.findings] == ["third"]


def test_a_step_that_is_refused_before_another_one() -> None:
    """While A replaces it, a livepatch is busy, and afterwards it has gone: both do nothing."""
    both = replace(FINE, b_errors=(0, 0))
    busy = replace(both, b_errors=(errno.EBUSY, 0), state="replaced")
    refused = replace(busy, b_errors=(0, errno.EBUSY))
    maker = Maker(at={"first": [both], "second": [busy], "third": [refused]})

    def in_order(order: Order) -> Seen:
        seen, errors = (busy, (errno.ENOENT, 0)) if Move.SETTLE in order else (both, (0, 0))
        a_errors = seen.a_errors[: order.count(Move.A)]
        return replace(seen, a_errors=a_errors, b_errors=errors[: order.count(Move.B)])

    maker.order = in_order
    (result,) = explored(maker, "fork-unload")
    assert [finding.at for finding in result.findings] == ["third"]


def test_all_may_settle_between_any_two_steps() -> None:
    """A disables; when that has settled, B finds nothing to disable, and unloads."""
    maker = Maker(at={"second": [OTHER]})
    slow = (Move.A, Move.SETTLE, Move.B, Move.SETTLE, Move.B, Move.SETTLE, Move.A)
    maker.order = lambda order: OTHER if order == slow else FINE
    (result,) = explored(maker, "unload-unload")
    assert result.outcome is CheckOutcome.NOT_SHOWN


def test_what_is_left_without_a_refused_step_has_to_be_right() -> None:
    """An order without it that breaks the kernel allows nothing."""
    busy = replace(FINE, b_errors=(errno.EBUSY,), state="A alone")
    maker = Maker(at={"second": [busy]})
    maker.order = lambda order: (
        replace(SPLAT, b_errors=(), state="A alone") if Move.B not in order else FINE
    )
    (result,) = explored(maker)
    assert [finding.at for finding in result.findings] == ["second"]


def test_steps_of_one_may_come_between_those_of_the_other() -> None:
    """Such orders are looked at when a trial gives something else, and once."""
    maker = Maker(at={"second": [OTHER], "third": [OTHER]})
    between = (Move.B, Move.A, Move.B)
    maker.order = lambda order: OTHER if order == between else FINE
    (result,) = explored(maker, "fork-unload")
    assert result.outcome is CheckOutcome.NOT_SHOWN
    assert maker.orders.count(between) == 1


def test_a_settled_order_counts_too() -> None:
    """B may come when the transition that A opened has ended."""
    maker = Maker(at={"second": [OTHER]})
    maker.order = lambda order: OTHER if Move.SETTLE in order else FINE
    (result,) = explored(maker)
    assert result.outcome is CheckOutcome.NOT_SHOWN
    assert len(maker.orders) == 3


def test_an_order_that_the_host_spoils_is_looked_at_again() -> None:
    """The trials after it may need it."""
    spoiled = [GuestStarved("the guest got too little time")] * 2
    maker = Maker(at={"first": [OTHER], "second": [OTHER]})

    def order(order: Order) -> Seen:
        if Move.SETTLE not in order:
            return FINE
        if spoiled:
            raise spoiled.pop()
        return OTHER

    maker.order = order
    (result,) = explored(maker)
    assert (result.outcome, result.failed) == (CheckOutcome.NOT_SHOWN, 1)


def test_an_order_that_fails_is_a_finding_without_a_hold() -> None:
    """Nothing is held then: the pair is broken by itself."""
    maker = Maker(order=lambda order: SPLAT if order[0] is Move.B else FINE)
    (result,) = explored(maker)
    (finding,) = result.findings
    assert (finding.at, finding.points) == ("B A", ())
    assert (finding.shown, finding.tries) == (4, 4)
    assert maker.tried.total() == 0
    assert "--at" not in finding.again


def test_an_order_that_fails_once_is_the_hosts() -> None:
    """Then nothing can be said of the pair."""
    hung = [replace(FINE, ended=False, stuck="A does not end")]
    (result,) = explored(Maker(order=lambda _: hung.pop() if hung else FINE))
    assert result.outcome is CheckOutcome.ERROR
    assert result.error is not None
    assert "failed once in the order A B" in result.error.message


def test_what_the_host_spoils_is_no_result() -> None:
    """It is tried once more; and what fails twice is counted, and judged as nothing."""
    starved = GuestStarved("no CPU")
    maker = Maker(at={"first": [starved, FINE], "second": [starved]})
    (result,) = explored(maker)
    assert (result.tried, result.failed) == (2, 1)
    assert result.outcome is CheckOutcome.NOT_SHOWN
    (result,) = explored(Maker(at={point.function: [starved] for point in POINTS}))
    assert result.outcome is CheckOutcome.ERROR
    assert result.error is not None


def test_a_point_that_is_not_passed_says_nothing() -> None:
    """Its outcome is that of no hold, and is not judged."""
    maker = Maker(at={"first": [replace(OTHER, reached=False, b=None)]})
    (result,) = explored(maker)
    assert (result.outcome, result.not_reached) == (CheckOutcome.NOT_SHOWN, 1)


def test_a_pair_that_the_kernel_refuses_is_not_applicable() -> None:
    """Its state cannot be brought about."""

    def refuse(_: Order) -> Seen:
        raise ModuleRefused("klp_test_exit", errno.EINVAL, action="load")

    (result,) = explored(Maker(order=refuse))
    assert result.outcome is CheckOutcome.NOT_APPLICABLE
    assert "cannot start on this kernel" in str(result.detail)


def test_a_limit_ends_it() -> None:
    """What was not begun is not-run."""
    results = explored(Maker(), "fork-load", "fork-disable", extent=Extent(most=2))
    assert [result.tried for result in results] == [2, 0]
    assert results[1].outcome is CheckOutcome.NOT_RUN


def test_two_holds() -> None:
    """Each point of A alone, and then with each point of B."""
    maker = Maker(points=POINTS[:2])
    (result,) = explored(maker, extent=Extent(bound=2))
    assert result.points == 6
    assert set(maker.tried) == {
        *("first", "second"),
        *(f"{a} -> {b}" for a in ("first", "second") for b in ("first", "second")),
    }


def test_a_state_is_freed_after_its_last_pair() -> None:
    """Each takes the memory of a guest."""
    maker = Maker()
    pairs = find_pairs(("fork-disable", "fork-replace", "fork-load"))
    explored(maker, *map(str, pairs))
    assert maker.dropped == [pairs[0].state, pairs[2].state]


@pytest.mark.parametrize("excuse", [True, False])
def test_a_known_finding_is_named(*, excuse: bool) -> None:
    """By its pair, its point and what it shows; it fails unless that is excused."""
    bug = KnownBug(bug="exit-warning", steps="^explore fork-load at second", shows="WARNING in f")
    maker = Maker(at={"second": [SPLAT]})
    (result,) = explored(maker, bugs=(bug,), excuse=excuse)
    assert result.findings[0].bug == "exit-warning"
    assert (result.expected, result.excused) == (True, excuse)


def test_a_campaign_goes_on_where_it_was(tmp_path: Path) -> None:
    """What showed nothing is counted and not tried again; a finding is, and what was not tried."""
    file = tmp_path / "trials"
    blocked = {"first": [replace(FINE, b="blocked in f")]}
    once = explored(Maker(at=blocked), extent=Extent(most=2), kept=KeptTrials(file, "one"))
    assert once[0].tried == 2
    again = Maker(at={"third": [OTHER]})
    (result,) = explored(again, kept=KeptTrials(file, "one"))
    assert (result.points, result.tried, result.blocked) == (3, 3, 1)
    assert set(again.tried) == {"third"}
    assert result.outcome is CheckOutcome.SHOWN
    (result,) = explored(again, kept=KeptTrials(file, "one"))
    assert result.outcome is CheckOutcome.SHOWN
    other = Maker()
    explored(other, kept=KeptTrials(file, "another"))
    assert other.tried.total() == 3


def test_trials_without_the_oracle_are_made_again_with_it(tmp_path: Path) -> None:
    """And not the other way round: what it has passed is fine without it too."""
    file = tmp_path / "trials"
    explored(Maker(), kept=KeptTrials(file, "one", oracle=False))
    judged = Maker()
    explored(judged, kept=KeptTrials(file, "one", oracle=True))
    assert judged.tried.total() == 3
    again = Maker()
    explored(again, kept=KeptTrials(file, "one", oracle=False))
    assert not again.tried


def test_a_pair_that_is_known_in_full_needs_no_guest(tmp_path: Path) -> None:
    """Not even for its orders."""
    explored(Maker(), kept=KeptTrials(tmp_path / "trials", "one"))
    again = Maker()
    (result,) = explored(again, kept=KeptTrials(tmp_path / "trials", "one"))
    assert (result.tried, result.outcome) == (3, CheckOutcome.NOT_SHOWN)
    assert not again.orders
    assert not again.tried


@pytest.mark.parametrize("text", ["x\n", "[]\n", '{"pair": "a-b"}\n'])
def test_a_file_of_something_else_is_refused(tmp_path: Path, text: str) -> None:
    """It would be written to."""
    (tmp_path / "trials").write_text(text)
    with pytest.raises(UsageError, match=r"line 1 of .* is no trial"):
        KeptTrials(tmp_path / "trials", "one")
