# SPDX-License-Identifier: GPL-2.0-only
"""Kernel mutants: which tests run, how a mutant is judged, and the reports."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness.behaviours.mutants import (
    load_mutants,
    read_mutant,
)
from harness.behaviours.rule_tests import find_rule_tests, on_other_kernels
from harness.behaviours.table import load_table
from harness.cli.child_commands import Command, Done, Lane
from harness.cli.registry import make_report
from harness.report.base import CheckOutcome, KernelFacts
from harness.report.junit import to_junit
from harness.report.suite_results import TestResult
from harness.resources import Resource, resource_dir
from harness.tools.mutants.conditions import Conditions
from harness.tools.mutants.mutant_trial import judge, judge_if_same
from harness.tools.mutants.page import matrix_page
from harness.tools.mutants.results import Catch, MutantResult
from harness.tools.mutants.which_tests import by_rule, catches, may_not_boot, plan_tests

if TYPE_CHECKING:
    from harness.behaviours.mutants import Mutant
    from harness.report.base import BaseReport

DIFF = "--- a/kernel/fork.c\n+++ b/kernel/fork.c\n@@ -1 +1 @@\n-a\n+b\n"
CARRIERS = {"TR-01": ("t.py::one", "t.py::both"), "TR-02": ("t.py::both",), "SV-01": ("s.py::x",)}
TABLE = load_table()
TESTS = find_rule_tests(resource_dir(Resource.BEHAVIOUR_TESTS))
CATALOGUE = load_mutants(resource_dir(Resource.KERNEL_MUTANTS))
FORMS = tuple(form for mutant in CATALOGUE for form in (mutant, *mutant.ports))


def patch_file(folder: Path, header: str = "", name: str = "m.patch") -> Path:
    path = folder / name
    path.write_text(f"# SPDX-License-Identifier: GPL-2.0-only\n{header}\n{DIFF}")
    return path


def result_of(name: str, outcome: str, *rules: str, detail: str | None = None) -> TestResult:
    return TestResult(
        id=f"tests/behaviours/{name}",
        outcome=CheckOutcome(outcome),
        seconds=1.0,
        rules=rules,
        detail=detail,
    )


# -- which tests, and what they say


def test_the_tests_of_the_broken_rules_come_first() -> None:
    """The tests of the broken rules run first, then those of the same sections, each once."""
    assert plan_tests(["TR-02"], CARRIERS) == (("t.py::both",), ("t.py::one", "s.py::x"))
    assert plan_tests([], CARRIERS) == (("s.py::x", "t.py::one", "t.py::both"),)


def test_what_builds_the_mutant_once_more_is_run_when_no_other_test_noticed() -> None:
    """A test that needs another build runs last, unless no other test has the rule."""
    both, builds = ["TR-02", "TR-01"], {"t.py::both", "s.py::x"}
    phases = plan_tests(both, CARRIERS, builds=builds)
    assert phases == (("t.py::one",), ("t.py::both", "s.py::x"))
    phases = plan_tests(both, CARRIERS, builds=builds, rules_only=True)
    assert phases == (("t.py::one",), ("t.py::both",))
    phases = plan_tests(["TR-02"], CARRIERS, builds={"t.py::both"})
    assert phases == (("t.py::both",), ("t.py::one", "s.py::x"))


def test_tests_that_are_left_out() -> None:
    """A test that is left out runs in no phase."""
    phases = plan_tests(["TR-02", "TR-01"], CARRIERS, without={"t.py::both", "s.py::x"})
    assert phases == (("t.py::one",),)
    assert plan_tests(["TR-02"], CARRIERS, without={"t.py::both"}, rules_only=True) == ()


def test_the_suite_says_which_tests_are_on_other_kernels() -> None:
    """Tests with the marker of the plugin are found, and each is a test of a rule."""
    found = on_other_kernels(resource_dir(Resource.BEHAVIOUR_TESTS))
    assert "transition/test_no_unwinder.py::test_switching_at_the_exit_alone" in found
    assert found < {test for tests in TESTS.values() for test in tests}


def test_who_caught_it() -> None:
    """Only failed tests are catches; those of the broken rules come first, with their reason."""
    found = catches(
        [
            result_of("s.py::x", "failed", "SV-01", detail="KernelSplat: WARNING\n\nlong"),
            result_of("t.py::one", "failed", "TR-01", detail="E   assert 1 == 2\nE  more"),
            result_of("t.py::two", "error", "TR-01"),
            result_of("t.py::three", "passed", "TR-01"),
        ],
        ["TR-01"],
    )
    assert [(catch.test, catch.reason, catch.expected) for catch in found] == [
        ("t.py::one", "assert 1 == 2", True),
        ("s.py::x", "KernelSplat: WARNING", False),
    ]


def test_what_a_rule_came_to() -> None:
    """A rule has failed when one of its tests has, in whatever order they ran."""
    results = [result_of("a", "failed", "TR-01"), result_of("b", "passed", "TR-01", "TR-02")]
    assert by_rule(results) == {"TR-01": "failed", "TR-02": "passed"}


def test_a_kernel_that_may_not_boot() -> None:
    """A kernel may not boot only if every test failed as it does without a guest."""
    panic = result_of("a", "failed", detail="GuestPanic: oops")
    assert may_not_boot([panic, result_of("b", "failed", detail="BootFailed: x")])
    assert not may_not_boot([panic, result_of("b", "passed")])
    assert not may_not_boot([panic, result_of("b", "failed", detail="assert 0")])
    assert not may_not_boot([])


# -- one mutant


@pytest.fixture
def conditions(tmp_path: Path) -> Conditions:
    """A run on 6.1 with three tests."""
    return Conditions(
        kernel=("--kernel", "6.1", "--kernel-config", "x.config"),
        suite=Path("/suite"),
        carriers=CARRIERS,
        accel="tcg",
        guests=4,
    )


def report(command: str, results: tuple[Any, ...] = (), error: str | None = None) -> BaseReport:
    host = {"system": "s", "kernel": "k", "cpus": 2, "memory_mib": 1, "python": "3"}
    facts = {"kind": error, "fault": "usage", "message": f"it is {error}", "details": ["line"]}
    return make_report(
        command=command,
        outcome="passed",
        harness="1",
        host=host,
        seconds=1.0,
        results=results,
        error=facts if error else None,
    )


def done(tmp_path: Path, code: int = 0, made: BaseReport | None = None) -> Done:
    log = tmp_path / "log"
    log.write_text("first\nlast line\n")
    return Done(code=code, report=made, seconds=2.0, log=log)


class Commands:
    """Answers the commands of one mutant in turn; ``lines`` has them as they would be typed."""

    def __init__(self, *answers: Done) -> None:
        self.answers = list(answers)
        self.commands: list[Command] = []

    def __call__(self, command: Command) -> Done:
        self.commands.append(command)
        return self.answers.pop(0)

    @property
    def lines(self) -> list[str]:
        return [" ".join(command.arguments) for command in self.commands]


@pytest.fixture
def mutant(tmp_path: Path) -> Mutant:
    """A mutant that breaks TR-02."""
    return read_mutant(patch_file(tmp_path, "Breaks: TR-02"))


def test_a_mutant_that_is_caught(mutant: Mutant, conditions: Conditions, tmp_path: Path) -> None:
    """A mutant is built, and the tests of its rules run until one fails."""
    failed = result_of("t.py::both", "failed", "TR-02")
    run = Commands(done(tmp_path), done(tmp_path, 1, report("test", (failed,))))
    result = judge(mutant, conditions, run)
    build, test = run.lines
    assert [command.lane for command in run.commands] == [Lane.BUILD, Lane.RUN]
    assert build == f"kernel build --kernel 6.1 --kernel-config x.config --patch {mutant.path}"
    assert test.startswith(f"test --kernel 6.1 --kernel-config x.config --patch {mutant.path} ")
    assert "--guests 1 -x " in test
    assert test.endswith(" /suite/t.py::both")
    assert result.outcome is CheckOutcome.CAUGHT
    assert [catch.test for catch in result.caught_by] == ["t.py::both"]
    assert (result.build_s, result.seconds) == (2.0, 2.0)


def test_a_mutant_of_a_kernel_with_more_options(conditions: Conditions, tmp_path: Path) -> None:
    """It is built and tested with its fragments, each once."""
    broken = read_mutant(patch_file(tmp_path, "Breaks: TR-02\nConfig: x.config workloads"))
    run = Commands(done(tmp_path), done(tmp_path, 3))
    judge(broken, conditions, run)
    options = "--kernel 6.1 --kernel-config x.config --kernel-config workloads --patch"
    assert run.lines[0].startswith(f"kernel build {options}")
    assert run.lines[1].startswith(f"test {options}")


def test_a_mutant_that_survives(mutant: Mutant, conditions: Conditions, tmp_path: Path) -> None:
    """A mutant has survived only after all tests have run."""
    run = Commands(
        done(tmp_path),
        done(tmp_path, 0, report("test", (result_of("t.py::both", "passed", "TR-02"),))),
        done(tmp_path, 0, report("test", (result_of("s.py::x", "passed", "SV-01"),))),
    )
    result = judge(mutant, conditions, run)
    assert run.lines[2].endswith("/suite/t.py::one /suite/s.py::x")
    assert result.outcome is CheckOutcome.SURVIVED
    assert result.is_news
    assert result.tests == 2


def test_a_mutant_is_judged_without_tests(
    mutant: Mutant, conditions: Conditions, tmp_path: Path
) -> None:
    """Tests that fail on the clean kernel do not run again, and the first run's logs stay."""
    run = Commands(done(tmp_path), done(tmp_path, 3))
    judge(mutant, replace(conditions, without=frozenset({"t.py::both"})), run)
    assert "t.py::one" in run.lines[1]
    assert "t.py::both" not in run.lines[1]
    again = Commands(done(tmp_path), done(tmp_path, 3))
    judge(mutant, conditions, again)
    names = [command.name for command in (*run.commands, *again.commands)]
    assert len(set(names)) == len(names)


def test_the_broken_rules_alone(conditions: Conditions, tmp_path: Path) -> None:
    """A rule without a test lets its mutant survive; one that names no rule gets every test."""
    alone = replace(conditions, rules_only=True)
    no_test = read_mutant(patch_file(tmp_path, "Breaks: ZZ-01"))
    result = judge(no_test, alone, Commands(done(tmp_path)))
    assert (result.outcome, result.tests) == (CheckOutcome.SURVIVED, 0)
    assert "have no test" in (result.detail or "")
    run = Commands(done(tmp_path), done(tmp_path, 3))
    judge(read_mutant(patch_file(tmp_path)), alone, run)
    assert "/suite/t.py::one" in run.lines[1]


@pytest.mark.parametrize(
    ("kind", "outcome"),
    [
        ("PatchDoesNotApply", "does-not-apply"),
        ("KernelBuildFailed", "does-not-build"),
        ("NoSpace", "error"),
    ],
)
def test_a_build_that_ends(
    kind: str, outcome: str, mutant: Mutant, conditions: Conditions, tmp_path: Path
) -> None:
    """A fault of the patch is not an error of the host; nothing is tested after either."""
    run = Commands(done(tmp_path, 2, report("kernel build", error=kind)))
    result = judge(mutant, conditions, run)
    assert result.outcome == outcome
    assert f"it is {kind}" in (result.detail or "")


@pytest.mark.parametrize(
    ("boots", "outcome", "detail"),
    [(False, "does-not-boot", "GuestPanic: oops"), (True, "caught", None)],
)
def test_a_kernel_that_panics(
    boots: bool,
    outcome: str,
    detail: str | None,
    mutant: Mutant,
    conditions: Conditions,
    tmp_path: Path,
) -> None:
    """It is booted once more without any test: when it comes up, the test has caught it."""
    failed = result_of("t.py::both", "failed", "TR-02", detail="GuestPanic: oops\n\nlong")
    run = Commands(
        done(tmp_path),
        done(tmp_path, 1, report("test", (failed,))),
        done(tmp_path, 0 if boots else 1),
    )
    result = judge(mutant, conditions, run)
    assert run.lines[2].startswith("boot --kernel 6.1")
    assert not run.commands[2].reports
    assert (result.outcome, result.detail) == (outcome, detail)


def test_a_run_without_a_report(mutant: Mutant, conditions: Conditions, tmp_path: Path) -> None:
    """A test run without a report is an error with its last lines: neither caught nor survived."""
    result = judge(mutant, conditions, Commands(done(tmp_path), done(tmp_path, 3)))
    assert result.outcome is CheckOutcome.ERROR
    assert result.detail == "first\nlast line"


@pytest.mark.parametrize(
    ("code", "detail"), [(0, "the sources or the compiler differ"), (3, "last")]
)
def test_another_clean_kernel_judges_nothing(
    code: int, detail: str, mutant: Mutant, conditions: Conditions, tmp_path: Path
) -> None:
    """A worker whose clean kernel differs would judge another mutant than the one it was sent."""
    kernel = KernelFacts(
        spec="6.1", version="6.1.9", digest="f" * 64, config_digest="c", compiler="gcc", source="s"
    )
    built = report("kernel build").model_copy(update={"kernels": (kernel,)})
    run = Commands(done(tmp_path, code, built))
    result = judge_if_same(mutant, conditions, run, clean="0" * 64)
    assert result.outcome is CheckOutcome.ERROR
    assert detail in (result.detail or "")
    assert run.lines == ["kernel build --kernel 6.1 --kernel-config x.config"]


# -- reports


def results() -> tuple[MutantResult, ...]:
    catch = Catch(
        test="t.py::x", rules=("TR-01",), seconds=1.0, reason="it <failed>", expected=True
    )
    common: dict[str, Any] = {"seconds": 1.0, "breaks": ("TR-01",), "diff": "-a <b>\n"}
    return (
        MutantResult(
            id="seen",
            outcome=CheckOutcome.CAUGHT,
            caught_by=(catch,),
            rules={"TR-01": CheckOutcome.FAILED},
            **common,
        ),
        MutantResult(id="unseen", outcome=CheckOutcome.SURVIVED, **common),
        MutantResult(id="same", outcome=CheckOutcome.SURVIVED, equivalent="proof", **common),
        MutantResult(id="odd", outcome=CheckOutcome.DOES_NOT_BUILD, **common),
    )


def test_the_matrix_shows_survivors_first() -> None:
    """The page begins with survivors and their diffs; an equivalent mutant has its proof."""
    page = matrix_page(results(), "6.1 <x>")
    assert page.index("unseen survived") < page.index("<table")
    assert "-a &lt;b&gt;" in page
    assert "6.1 &lt;x&gt;" in page
    assert "it &lt;failed&gt;" in page
    assert "same survived" not in page
    assert "same is equivalent" in page
    rows = re.findall(r"<tr><th title=.*?>(\w+)</th>", page)
    assert rows == ["unseen", "same", "odd", "seen"]
    assert re.search(r'class="cell failed broken" title="seen, TR-01">✕', page)


def test_junit_counts_survivors_as_failures() -> None:
    """In JUnit a survivor is a failure, a broken patch an error, a proven survivor neither."""
    text = to_junit(report("mutants run", results()))
    assert text.count("<failure") == 1
    assert text.count("<error") == 1
    assert 'tests="4"' in text
