# SPDX-License-Identifier: GPL-2.0-only
"""Who noticed a mutant has to pass on the clean kernel; else the mutant is judged again."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from harness.cli.child_commands import Command, Done
from harness.deadline import Deadline
from harness.report.base import CheckOutcome
from harness.tools.mutants import campaign
from harness.tools.mutants.campaign import amended
from harness.tools.mutants.results import Catch, MutantResult
from tests.unit.test_mutation import conditions as conditions
from tests.unit.test_mutation import done, report, result_of

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
    from pathlib import Path

    from harness.tools.mutants.conditions import Conditions


def test_a_test_that_fails_on_the_clean_kernel_catches_nothing() -> None:
    """Without it the mutant has survived; with another one it is still caught."""
    result = MutantResult(
        id="m",
        outcome=CheckOutcome.CAUGHT,
        seconds=1.0,
        caught_by=tuple(
            Catch(test=name, rules=(), seconds=1.0, reason="", expected=True) for name in "ab"
        ),
    )
    assert amended(result, {"z"}) is result
    assert amended(result, {"a"}).outcome is CheckOutcome.CAUGHT
    both = amended(result, {"a", "b"})
    assert both.outcome is CheckOutcome.SURVIVED
    assert both.detail == "only a, b failed, on the clean kernel as well"


def caught(name: str, *tests: str) -> MutantResult:
    """A mutant on which these tests failed."""
    return MutantResult(
        id=name,
        outcome=CheckOutcome.CAUGHT if tests else CheckOutcome.SURVIVED,
        seconds=1.0,
        build_s=5.0,
        tests=2,
        caught_by=tuple(
            Catch(test=test, rules=(), seconds=1.0, reason="", expected=True) for test in tests
        ),
    )


class CleanKernel:
    """Answers which tests fail without any mutant, and judges mutants again."""

    def __init__(self, fail: Iterable[str], second: Mapping[str, Sequence[MutantResult]]) -> None:
        self.fail = set(fail)
        self.second = {name: list(results) for name, results in second.items()}
        self.asked: list[set[str]] = []
        self.judged: list[tuple[list[str], set[str]]] = []

    def run(self, tasks: list[Generator[Command, Done, Any]], folder: Path, **_: object) -> Any:
        [task] = tasks
        tests = {word for word in next(task).arguments if "::" in word}
        names = {test.removeprefix("/suite/") for test in tests}
        self.asked.append(names)
        results = tuple(
            result_of(name, "failed" if name in self.fail else "passed") for name in sorted(names)
        )
        with pytest.raises(StopIteration) as stop:
            task.send(done(folder, 0, report("test", results)))
        return [stop.value.value]

    def again(self, unsure: Sequence[MutantResult], without: frozenset[str]) -> list[MutantResult]:
        self.judged.append(([result.id for result in unsure], set(without)))
        return [self.second[result.id].pop(0) for result in unsure]


@pytest.fixture
def sift(
    conditions: Conditions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., list[MutantResult]]:
    """Compare with a clean kernel."""

    def sifted(
        clean: CleanKernel, *results: MutantResult, everything: bool = False
    ) -> list[MutantResult]:
        monkeypatch.setattr(campaign, "run_all", clean.run)
        return campaign.without_false_alarms(
            results,
            replace(conditions, everything=everything),
            tmp_path,
            again=clean.again,
            deadline=Deadline.after(1),
            environment={},
        )

    return sifted


def test_a_mutant_whose_tests_all_fail_on_the_clean_kernel_is_judged_again(
    sift: Callable[..., list[MutantResult]],
) -> None:
    """By the tests that had not run yet; who notices then has to pass on the clean kernel too."""
    clean = CleanKernel(
        ["t::bad", "t::worse"],
        {"m": [caught("m", "t::worse"), caught("m", "t::good")], "s": [caught("s")]},
    )
    m, s, other = sift(
        clean, caught("m", "t::bad"), caught("s", "t::bad"), caught("o", "t::good", "t::bad")
    )
    assert clean.asked == [{"t::bad", "t::good"}, {"t::worse"}]
    assert clean.judged == [
        (["m", "s"], {"t::bad"}),
        (["m"], {"t::bad", "t::worse"}),
    ]
    assert m.outcome is CheckOutcome.CAUGHT
    assert [catch.test for catch in m.caught_by] == ["t::good"]
    assert (m.on_clean, m.build_s, m.seconds, m.tests) == (("t::bad", "t::worse"), 5.0, 3.0, 6)
    assert s.outcome is CheckOutcome.SURVIVED
    assert s.detail == "only t::bad failed, on the clean kernel as well"
    assert s.on_clean == ("t::bad",)
    assert (other.outcome, other.on_clean) == (CheckOutcome.CAUGHT, ("t::bad",))


def test_where_every_test_has_run_nothing_is_left_to_try(
    sift: Callable[..., list[MutantResult]],
) -> None:
    """With --all the first run has said it."""
    clean = CleanKernel(["t::bad"], {})
    [m] = sift(clean, caught("m", "t::bad"), everything=True)
    assert (m.outcome, clean.judged) == (CheckOutcome.SURVIVED, [])


def test_without_any_catch_the_clean_kernel_is_not_run(
    sift: Callable[..., list[MutantResult]],
) -> None:
    """There is nothing to compare."""
    clean = CleanKernel([], {})
    assert sift(clean, caught("m")) == [caught("m")]
    assert clean.asked == []
