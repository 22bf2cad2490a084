# SPDX-License-Identifier: GPL-2.0-only
"""Who noticed a mutant has to pass on the clean kernel; else the mutant is judged again."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from harness.cli.child_commands import Command, Done
from harness.report.base import CheckOutcome
from harness.tools.mutants.campaign import amended, without_false_alarms
from harness.tools.mutants.results import Catch, MutantResult
from tests.unit.test_mutation import conditions as conditions
from tests.unit.test_mutation import done, report, result_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from harness.tools.mutants.conditions import Conditions


def test_a_test_that_fails_on_the_clean_kernel_catches_nothing() -> None:
    """Without such a test a mutant has survived, unless another test caught it."""
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

    def __init__(
        self, folder: Path, fail: Iterable[str], second: Mapping[str, Sequence[MutantResult]]
    ) -> None:
        self.folder = folder
        self.fail = set(fail)
        self.second = {name: list(results) for name, results in second.items()}
        self.ran: list[set[str]] = []
        self.judged: list[tuple[list[str], set[str]]] = []

    def __call__(self, command: Command) -> Done:
        tests = {word for word in command.arguments if "::" in word}
        names = {test.removeprefix("/suite/") for test in tests}
        self.ran.append(names)
        results = tuple(
            result_of(name, "failed" if name in self.fail else "passed") for name in sorted(names)
        )
        return done(self.folder, 0, report("test", results))

    def again(self, unsure: Sequence[MutantResult], without: frozenset[str]) -> list[MutantResult]:
        self.judged.append(([result.id for result in unsure], set(without)))
        return [self.second[result.id].pop(0) for result in unsure]


def test_a_mutant_whose_tests_all_fail_on_the_clean_kernel_is_judged_again(
    conditions: Conditions, tmp_path: Path
) -> None:
    """It is judged by the tests that had not run, and these run on the clean kernel as well."""
    clean = CleanKernel(
        tmp_path,
        ["t::bad", "t::worse"],
        {"m": [caught("m", "t::worse"), caught("m", "t::good")], "s": [caught("s")]},
    )
    found = (caught("m", "t::bad"), caught("s", "t::bad"), caught("o", "t::good", "t::bad"))
    m, s, other = without_false_alarms(found, conditions, clean, again=clean.again)
    assert clean.ran == [{"t::bad", "t::good"}, {"t::worse"}]
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
    conditions: Conditions, tmp_path: Path
) -> None:
    """With --all every test has run, so the mutant is not judged again."""
    clean = CleanKernel(tmp_path, ["t::bad"], {})
    [m] = without_false_alarms(
        [caught("m", "t::bad")], replace(conditions, everything=True), clean, again=clean.again
    )
    assert (m.outcome, clean.judged) == (CheckOutcome.SURVIVED, [])


def test_without_any_catch_the_clean_kernel_is_not_run(
    conditions: Conditions, tmp_path: Path
) -> None:
    """No guest starts on the clean kernel when no test failed on a mutant."""
    clean = CleanKernel(tmp_path, [], {})
    found = [caught("m")]
    assert without_false_alarms(found, conditions, clean, again=clean.again) == found
    assert clean.ran == []


def test_a_mutant_with_fragments_has_a_clean_kernel_of_its_own(
    conditions: Conditions, tmp_path: Path
) -> None:
    """Its tests do not apply to the kernel of the others: there they would count as failing."""
    commands: list[Command] = []
    clean = CleanKernel(tmp_path, [], {})

    def run(command: Command) -> Done:
        commands.append(command)
        return clean(command)

    more = caught("more", "t::of-option").model_copy(update={"config": ("workloads",)})
    found = [more, caught("m", "t::good")]
    assert without_false_alarms(found, conditions, run, again=clean.again) == found
    assert clean.ran == [{"t::of-option"}, {"t::good"}]
    assert ["workloads" in command.arguments for command in commands] == [True, False]
