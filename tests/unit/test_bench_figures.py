# SPDX-License-Identifier: GPL-2.0-only
"""The figures of `make bench`: ratios, budgets, rates, and what they are read from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from benchmarks.builds import Stages
from benchmarks.figures import Bound, Budget, Figure, ratio, side
from benchmarks.measure import (
    own_mib,
    percent_done,
    rate_while_all_work,
)
from harness.errors import HarnessError
from harness.vm.kernel.progress import LineProgress

if TYPE_CHECKING:
    pass

# Of a real clone just connected, the only one to map its template's RAM.
ROLLUP = """\
558869ae2000-7ffc8cdef000 ---p 00000000 00:00 0                          [rollup]
Rss:               75340 kB
Pss:               62711 kB
Pss_Dirty:         52908 kB
Pss_Anon:          37536 kB
Pss_File:           9803 kB
Pss_Shmem:         15372 kB
Shared_Clean:      22200 kB
Shared_Dirty:          0 kB
Private_Clean:       232 kB
Private_Dirty:     52908 kB
Anonymous:         37536 kB
AnonHugePages:     20480 kB
"""
MET = Figure(id="a", what="one", value=1, unit="s", budget=Budget(bound=Bound.AT_MOST, value=2))
MISSED = Figure(id="b", what="two", value=3, unit="s", budget=Budget(bound=Bound.AT_MOST, value=2))


@pytest.mark.parametrize(
    ("bound", "value", "holds"),
    [
        (Bound.AT_MOST, 1.9, True),
        (Bound.AT_MOST, 2.0, True),
        (Bound.AT_MOST, 2.1, False),
        (Bound.AT_LEAST, 1.9, False),
        (Bound.AT_LEAST, 2.0, True),
        (Bound.AT_LEAST, 2.1, True),
    ],
)
def test_a_budget_is_an_upper_or_a_lower_bound(bound: Bound, value: float, holds: bool) -> None:
    """A budget holds at its bound and on the right side of it."""
    assert Budget(bound=bound, value=2.0).holds(value) is holds


def test_a_side_is_the_median_of_its_runs() -> None:
    """One slow run does not change the value of a side."""
    assert side("restored", "s", [0.3, 9.0, 0.2]).value == 0.3
    assert side("restored", "s", [0.3, 9.0, 0.2]).runs == (0.3, 9.0, 0.2)


def test_a_ratio_is_the_first_side_by_the_second_and_tells_both() -> None:
    """The line of a ratio has both sides and the budget."""
    figure = ratio(
        "guest-start",
        "start of a guest",
        side("restored", "s", [0.25]),
        side("booted", "s", [4.0]),
        Budget(bound=Bound.AT_MOST, value=1 / 12),
    )
    assert figure.value == 0.25 / 4.0
    assert figure.met
    assert figure.describe() == (
        "start of a guest: 0.0625 (restored 0.25 s against booted 4 s) - budget at most 0.0833: met"
    )


def test_a_missed_budget_cannot_be_overlooked() -> None:
    """The line of a missed budget has it in capitals."""
    assert MISSED.met is False
    assert MISSED.describe() == "two: 3 s - budget at most 2 s: MISSED"


def test_a_figure_without_a_budget_is_only_reported() -> None:
    """Without a budget nothing is met or missed."""
    figure = Figure(id="clone-memory", what="memory of a clone", value=45.94, unit="MiB")
    assert figure.met is None
    assert figure.describe() == "memory of a clone: 45.9 MiB"


def test_a_large_figure_keeps_its_digits() -> None:
    """Rounding to three digits stops at 100."""
    assert Figure(id="x", what="build", value=312.6, unit="s").describe() == "build: 313 s"


def test_a_rate_counts_only_while_all_work() -> None:
    """Worker 1 is alone until 3 and after 7: between are its two cycles and two of worker 2."""
    assert rate_while_all_work([[1, 5, 6, 7.0], [3, 5, 7.5]]) == (3 + 1) / 4


def test_the_rate_of_one_worker_leaves_out_its_first_cycle() -> None:
    """The first cycle of a worker and its time do not count."""
    assert rate_while_all_work([[10.0, 12.0, 14.0]]) == 0.5


@pytest.mark.parametrize("ends_s", [[[1.0]], [[1.0, 2.0], [3.0, 4.0]]])
def test_there_is_no_rate_without_a_time_when_all_work(ends_s: list[list[float]]) -> None:
    """Workers that were never busy at the same time have no common rate."""
    with pytest.raises(HarnessError, match="did not all work at the same time"):
        rate_while_all_work(ends_s)


def test_pages_that_a_clone_only_read_are_not_its_own() -> None:
    """Private_Dirty has them when this clone is the only one that maps them."""
    assert own_mib(ROLLUP) == pytest.approx(37536 / 1024)


def test_a_kernel_that_does_not_tell_the_memory_is_an_error() -> None:
    """A smaps_rollup without the line is an error, not zero."""
    with pytest.raises(HarnessError, match="Anonymous"):
        own_mib("Rss: 1 kB\n")


@pytest.mark.parametrize(
    ("line", "percent"),
    [
        ("........................................     [ 37%]\n", 37),
        ("...............                              [100%]", 100),
        ("[gw1] [ 37%] PASSED tests/x.py", None),
        ("12 passed", None),
    ],
)
def test_how_far_pytest_is(line: str, percent: int | None) -> None:
    """The percentage is read from pytest's rows of dots only."""
    assert percent_done(line) == percent


def test_the_last_stage_has_its_own_clock() -> None:
    """The time of the build is counted from the start of its own stage."""
    now = iter([0.0, 10.0, 25.0, 60.0])
    stages = Stages(LineProgress(lambda _line: None), clock=lambda: next(now))
    stages.stage("downloading")
    stages.stage("building")
    stages.count(1, 2, "objects")
    assert stages.last_s == 35.0
