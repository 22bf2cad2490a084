# SPDX-License-Identifier: GPL-2.0-only
"""Which test a sweep runs next on a mutant."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.behaviours.mutants import fitted, load_mutants
from harness.report.base import CheckOutcome
from harness.resources import Resource, resource_dir
from harness.tools.mutants.sweep.baseline import Baseline, TestFacts
from harness.tools.mutants.sweep.likely_tests import LikelyTests, near_rules
from harness.tools.mutants.sweep.parse import candidates

if TYPE_CHECKING:
    from harness.tools.mutants.sweep.candidates import Candidate

FILE = "kernel/livepatch/core.c"
SOURCE = b"""// SPDX-License-Identifier: GPL-2.0-only
int first(int a)
{
	if (a) call(a);
	call(a + 1);
	return 0;
}
int second(int a)
{
	call(a);
	return 0;
}
"""
MUTANTS = candidates({FILE: SOURCE})
IN_FIRST, SAME_LINE, LATER, *_ = MUTANTS
IN_SECOND = next(each for each in MUTANTS if each.function == "second")
FAST, SLOW = "test_fast", "test_slow"


def likely(
    *,
    slow_s: float = 10.0,
    near: dict[str, tuple[str, ...]] | None = None,
    last: dict[str, str] | None = None,
    fast_reaches: int = 1,
) -> LikelyTests:
    """Two tests, one of a rule X-1 that is slow and one of Y-1 that is fast."""

    def facts(cpu_s: float, rule: str, reaches: int) -> TestFacts:
        return TestFacts(
            outcome=CheckOutcome.PASSED,
            seconds=1.0,
            cpu_s=cpu_s,
            rules=(rule,),
            differs=frozenset(range(reaches)),
        )

    baseline = Baseline(
        tests={FAST: facts(1.0, "Y-1", fast_reaches), SLOW: facts(slow_s, "X-1", 1)}
    )
    return LikelyTests(baseline, near=near or {}, last=last or {})


def soonest(of: LikelyTests, mutant: Candidate = IN_FIRST) -> str:
    return of.soonest(mutant, (SLOW, FAST), ())


def test_the_cheapest_when_nothing_is_known() -> None:
    """CPU time counts, not the time that a busy host takes."""
    assert soonest(likely()) == FAST


def test_the_one_that_reaches_less() -> None:
    """A test that reaches everything says little about this line."""
    assert soonest(likely(slow_s=1.1)) == FAST
    assert soonest(likely(slow_s=1.1, fast_reaches=100)) == SLOW


def test_the_one_that_noticed_it_in_the_last_sweep() -> None:
    """However slow it is, and for this mutant alone."""
    known = likely(slow_s=500.0, last={IN_FIRST.name: SLOW})
    assert soonest(known) == SLOW
    assert soonest(known, LATER) == FAST


def test_rules_of_the_catalogue_near_the_line() -> None:
    """Their tests are likelier; the nearest rule counts most."""
    assert soonest(likely(slow_s=3.0)) == FAST
    assert soonest(likely(slow_s=3.0, near={IN_FIRST.name: ("X-1",)})) == SLOW
    assert soonest(likely(slow_s=3.0, near={IN_FIRST.name: ("Y-1", "X-1")})) == FAST


@pytest.mark.parametrize(
    ("of", "expected"),
    [(IN_FIRST, SLOW), (LATER, SLOW), (IN_SECOND, FAST)],
    ids=["itself", "same-function", "elsewhere"],
)
def test_what_noticed_a_neighbour(of: Candidate, expected: str) -> None:
    """A test that has caught mutants of the function, and one that has not."""
    known = likely(slow_s=4.0)
    for _ in range(2):
        for test in (FAST, SLOW):
            known.ran(IN_FIRST, test)
        known.noticed(IN_FIRST, SLOW)
    assert soonest(known, of) == expected


def test_the_same_line_says_more_than_the_function() -> None:
    """What missed mutants of other lines may notice this one, as it noticed another of its line."""
    known = likely(slow_s=4.0)
    for _ in range(6):
        known.ran(LATER, SLOW)
    for test in (FAST, SLOW):
        known.ran(IN_FIRST, test)
    known.noticed(IN_FIRST, SLOW)
    assert IN_FIRST.line == SAME_LINE.line != LATER.line
    assert soonest(known, SAME_LINE) == SLOW
    assert soonest(known, LATER) == FAST


def test_one_that_was_tried_is_tried_again_first() -> None:
    """Its first try may have been the host's fault."""
    assert likely().soonest(IN_FIRST, (SLOW, FAST), (SLOW, "one that is over")) == SLOW


def test_the_catalogue_knows_rules_of_the_core() -> None:
    """A line of the core has mutants near it, in the form of its series."""
    catalogue = fitted(load_mutants(resource_dir(Resource.KERNEL_MUTANTS)), "6.12")
    rules = near_rules([IN_FIRST], catalogue)
    assert rules[IN_FIRST.name]
