# SPDX-License-Identifier: GPL-2.0-only
"""Two kernels compared rule by rule, and what `git bisect run` is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import typer

from harness.behaviours.compare import compare_rules
from harness.behaviours.results import Change, CompareResult
from harness.cli.exits import guarded
from harness.errors import (
    BootFailed,
    DownloadFailed,
    GuestPanic,
    KernelBuildFailed,
    KernelUnfit,
    PatchDoesNotApply,
    UsageError,
)
from harness.report.base import CheckOutcome
from harness.report.suite_results import TestResult
from harness.tools.suite.bisect import CANNOT_BE_TESTED, GIVE_UP, in_bisect

if TYPE_CHECKING:
    from pathlib import Path

    from harness.errors import KlpError

PASSED, FAILED, SKIPPED = CheckOutcome.PASSED, CheckOutcome.FAILED, CheckOutcome.SKIPPED
XFAILED, ERROR = CheckOutcome.EXPECTED_FAILURE, CheckOutcome.ERROR


def a_test(name: str, outcome: CheckOutcome, *rules: str, detail: str | None = None) -> TestResult:
    return TestResult(id=f"t.py::{name}", outcome=outcome, seconds=1.0, rules=rules, detail=detail)


def only(results: tuple[CompareResult, ...]) -> CompareResult:
    (result,) = results
    return result


@pytest.mark.parametrize(
    ("before", "after", "change", "outcome"),
    [
        (PASSED, PASSED, Change.SAME, PASSED),
        (FAILED, FAILED, Change.SAME, PASSED),
        (PASSED, FAILED, Change.WORSE, FAILED),
        (FAILED, PASSED, Change.BETTER, PASSED),
        (XFAILED, PASSED, Change.BETTER, PASSED),
        (PASSED, SKIPPED, Change.OTHER, PASSED),
        (SKIPPED, FAILED, Change.OTHER, PASSED),
        (PASSED, ERROR, Change.OTHER, ERROR),
    ],
)
def test_what_a_change_is(
    before: CheckOutcome, after: CheckOutcome, change: Change, outcome: CheckOutcome
) -> None:
    """Only a rule that held and fails is for the worse; an error judges nothing."""
    result = only(
        compare_rules([a_test("a", before, "TR-01")], [a_test("a", after, "TR-01", detail="why")])
    )
    assert (result.change, result.outcome) == (change, outcome)
    assert result.seconds == 2.0
    assert result.tests == (() if change is Change.SAME else ("t.py::a",))


def test_a_rule_is_as_good_as_its_worst_test() -> None:
    """One of two tests fails now: the rule does, and the test is named with what it said."""
    before = [a_test("a", PASSED, "TR-01"), a_test("b", PASSED, "TR-01", "FO-03")]
    after = [a_test("a", PASSED, "TR-01"), a_test("b", FAILED, "TR-01", "FO-03", detail="x\ny")]
    results = compare_rules(before, after)
    assert [(r.id, r.change, r.tests) for r in results] == [
        ("FO-03", Change.WORSE, ("t.py::b",)),
        ("TR-01", Change.WORSE, ("t.py::b",)),
    ]
    assert results[0].detail == "x\ny"


def test_a_known_bug_that_a_series_fixes() -> None:
    """A test that was to fail and passes is news of the good kind, not a failure."""
    before = [a_test("a", XFAILED, "FO-06")]
    after = [a_test("a", FAILED, "FO-06", detail="[XPASS(strict)] a known use after free")]
    assert only(compare_rules(before, after)).change is Change.BETTER


def test_a_rule_that_ran_on_one_side() -> None:
    """It is told, and fails nothing."""
    result = only(compare_rules([], [a_test("a", FAILED, "TR-01")]))
    assert (result.before, result.change) == (CheckOutcome.NOT_RUN, Change.OTHER)


def nothing() -> None:
    """A revision that builds and boots."""


@pytest.mark.parametrize(
    ("code", "told"), [(0, 0), (1, 1), (2, GIVE_UP), (3, GIVE_UP), (5, GIVE_UP)]
)
def test_bisect_takes_verdicts_alone(code: int, told: int) -> None:
    """Wrong usage and a broken host are no bad revision: git gives up from 128 on."""
    assert in_bisect(nothing, lambda: code) == told


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (KernelBuildFailed("x"), CANNOT_BE_TESTED),
        (KernelUnfit("x"), CANNOT_BE_TESTED),
        (PatchDoesNotApply("x"), CANNOT_BE_TESTED),
        (BootFailed("x"), CANNOT_BE_TESTED),
        (GuestPanic("x"), CANNOT_BE_TESTED),
        (UsageError("x"), GIVE_UP),
        (DownloadFailed("x"), GIVE_UP),
    ],
)
def test_bisect_skips_what_cannot_be_tested(error: KlpError, told: int) -> None:
    """125 is for this revision's own faults before the first test."""
    ran: list[int] = []

    def prepare() -> None:
        raise error

    def work() -> int:
        ran.append(1)
        return 0

    assert in_bisect(prepare, work) == told
    assert not ran


def test_a_panic_in_the_tests_is_a_bad_revision() -> None:
    """It booted: what the kernel does afterwards is a verdict."""

    def work() -> int:
        raise GuestPanic("x")

    assert in_bisect(nothing, work) == 1


def test_a_bug_of_ours_is_no_bad_revision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What nobody foresaw ends the command as a bug, with a code at which git stops."""
    monkeypatch.setenv("KLP_HARNESS_RUNS", str(tmp_path))

    @guarded
    def command() -> int:
        return in_bisect(nothing, lambda: int("x"))

    with pytest.raises(typer.Exit) as caught:
        command()
    assert caught.value.exit_code == GIVE_UP
