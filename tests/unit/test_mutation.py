# SPDX-License-Identifier: GPL-2.0-only
"""Kernel mutants: which tests run, how a mutant is judged, and the reports."""

from __future__ import annotations

import os
import re
import sys
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
from harness.cli.child_commands import Command, Done, Lane, run_all
from harness.cli.registry import make_report
from harness.deadline import Deadline
from harness.errors import HarnessError
from harness.report.base import CheckOutcome
from harness.report.junit import to_junit
from harness.report.suite_results import TestResult
from harness.resources import Resource, resource_dir
from harness.tools.mutants.conditions import Conditions
from harness.tools.mutants.mutant_trial import judge
from harness.tools.mutants.page import matrix_page
from harness.tools.mutants.results import Catch, MutantResult
from harness.tools.mutants.which_tests import by_rule, catches, may_not_boot, plan_tests

if TYPE_CHECKING:
    from collections.abc import Generator

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
    """Then those of the same sections; each once."""
    plan = plan_tests(["TR-02"], CARRIERS)
    assert plan.first == ("t.py::both",)
    assert plan.rest == ("t.py::one", "s.py::x")
    assert plan_tests([], CARRIERS).first == ()
    assert plan.phases() == (plan.first, plan.rest)


def test_what_builds_the_mutant_once_more_is_run_when_no_other_test_noticed() -> None:
    """Such a build takes minutes; but where no other test is of the rule, it is the first."""
    plan = plan_tests(["TR-02", "TR-01"], CARRIERS, builds={"t.py::both", "s.py::x"})
    assert plan.phases() == (("t.py::one",), ("t.py::both", "s.py::x"))
    assert plan.phases(rules_only=True) == (("t.py::one",), ("t.py::both",))
    plan = plan_tests(["TR-02"], CARRIERS, builds={"t.py::both"})
    assert plan.phases() == (("t.py::both",), ("t.py::one", "s.py::x"))


def test_tests_that_are_left_out() -> None:
    """Wherever they would have run."""
    left = plan_tests(["TR-02", "TR-01"], CARRIERS, without={"t.py::both", "s.py::x"})
    assert left.phases() == (("t.py::one",),)
    assert plan_tests(["TR-02"], CARRIERS, without={"t.py::both"}).phases(rules_only=True) == ()


def test_the_suite_says_which_tests_are_on_other_kernels() -> None:
    """Those with the marker of the plugin; each is a test of a rule."""
    found = on_other_kernels(resource_dir(Resource.BEHAVIOUR_TESTS))
    assert "transition/test_no_unwinder.py::test_switching_at_the_exit_alone" in found
    assert found < {test for tests in TESTS.values() for test in tests}


def test_who_caught_it() -> None:
    """Failed tests alone; those of the broken rules first, with the line that tells most."""
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
    """Failed when one of its tests failed, in whatever order."""
    results = [result_of("a", "failed", "TR-01"), result_of("b", "passed", "TR-01", "TR-02")]
    assert by_rule(results) == {"TR-01": "failed", "TR-02": "passed"}


def test_a_kernel_that_may_not_boot() -> None:
    """All tests failed, each as it does without a guest."""
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


class Player:
    """Answers the commands of one mutant, one after the other."""

    def __init__(self, task: Generator[Command, Done, MutantResult]) -> None:
        self.task = task
        self.command: Command | None = next(task)
        self.result: MutantResult | None = None

    def answer(self, answer: Done) -> Player:
        try:
            self.command = self.task.send(answer)
        except StopIteration as stop:
            self.command, self.result = None, stop.value
        return self

    @property
    def lane(self) -> Lane:
        assert self.command is not None
        return self.command.lane

    @property
    def asked(self) -> str:
        assert self.command is not None
        return " ".join(self.command.arguments)


@pytest.fixture
def player(tmp_path: Path, conditions: Conditions) -> Player:
    """A mutant of TR-02 whose build was asked for."""
    return Player(judge(read_mutant(patch_file(tmp_path, "Breaks: TR-02")), conditions))


def test_a_mutant_that_is_caught(player: Player, tmp_path: Path) -> None:
    """Build, then the tests of its rules until one fails; no more are run."""
    assert player.lane is Lane.BUILD
    assert player.asked.startswith("kernel build --kernel 6.1 --kernel-config x.config --patch ")
    player.answer(done(tmp_path))
    assert player.lane.value == "run"
    assert player.asked.startswith("test --kernel 6.1 --kernel-config x.config --patch ")
    assert "--guests 1 -x " in player.asked
    assert player.asked.endswith(" /suite/t.py::both")
    failed = result_of("t.py::both", "failed", "TR-02")
    player.answer(done(tmp_path, 1, report("test", (failed,))))
    assert player.result is not None
    assert player.result.outcome is CheckOutcome.CAUGHT
    assert [catch.test for catch in player.result.caught_by] == ["t.py::both"]
    assert (player.result.build_s, player.result.seconds) == (2.0, 2.0)


def test_a_mutant_that_survives(player: Player, tmp_path: Path) -> None:
    """Not before all tests have run."""
    player.answer(done(tmp_path))
    player.answer(done(tmp_path, 0, report("test", (result_of("t.py::both", "passed", "TR-02"),))))
    assert player.asked.endswith("/suite/t.py::one /suite/s.py::x")
    player.answer(done(tmp_path, 0, report("test", (result_of("s.py::x", "passed", "SV-01"),))))
    assert player.result is not None
    assert player.result.outcome is CheckOutcome.SURVIVED
    assert player.result.is_news
    assert player.result.tests == 2


def test_a_mutant_is_judged_without_tests(conditions: Conditions, tmp_path: Path) -> None:
    """Those that mean nothing on this kernel are not asked again."""
    without = replace(conditions, without=frozenset({"t.py::both"}))
    player = Player(judge(read_mutant(patch_file(tmp_path, "Breaks: TR-02")), without))
    player.answer(done(tmp_path))
    assert "t.py::one" in player.asked
    assert "t.py::both" not in player.asked


def test_the_broken_rules_alone(conditions: Conditions, tmp_path: Path) -> None:
    """A rule without a test lets its mutant survive; one that names no rule gets every test."""
    alone = replace(conditions, rules_only=True)
    no_test = Player(judge(read_mutant(patch_file(tmp_path, "Breaks: ZZ-01")), alone))
    no_test.answer(done(tmp_path))
    assert no_test.result is not None
    assert (no_test.result.outcome, no_test.result.tests) == (CheckOutcome.SURVIVED, 0)
    assert "no test is about the rules" in (no_test.result.detail or "")
    no_rule = Player(judge(read_mutant(patch_file(tmp_path)), alone)).answer(done(tmp_path))
    assert "/suite/t.py::one" in no_rule.asked


@pytest.mark.parametrize(
    ("kind", "outcome"),
    [
        ("PatchDoesNotApply", "does-not-apply"),
        ("KernelBuildFailed", "does-not-build"),
        ("NoSpace", "error"),
    ],
)
def test_a_build_that_ends(kind: str, outcome: str, player: Player, tmp_path: Path) -> None:
    """The patch's fault is told from the host's; nothing is tested."""
    player.answer(done(tmp_path, 2, report("kernel build", error=kind)))
    assert player.result is not None
    assert player.result.outcome == outcome
    assert f"it is {kind}" in (player.result.detail or "")


def test_a_kernel_that_does_not_boot(player: Player, tmp_path: Path) -> None:
    """What looks so is tried once more without any test."""
    player.answer(done(tmp_path))
    failed = result_of("t.py::both", "failed", "TR-02", detail="GuestPanic: at boot\n\nlong")
    player.answer(done(tmp_path, 1, report("test", (failed,))))
    assert player.asked.startswith("boot --kernel 6.1")
    assert player.command is not None
    assert not player.command.reports
    player.answer(done(tmp_path, 1))
    assert player.result is not None
    assert player.result.outcome is CheckOutcome.DOES_NOT_BOOT
    assert player.result.detail == "GuestPanic: at boot"


def test_a_kernel_that_panics_in_the_test(player: Player, tmp_path: Path) -> None:
    """It boots, so the test has caught it."""
    player.answer(done(tmp_path))
    failed = result_of("t.py::both", "failed", "TR-02", detail="GuestPanic: in the test")
    player.answer(done(tmp_path, 1, report("test", (failed,)))).answer(done(tmp_path))
    assert player.result is not None
    assert player.result.outcome is CheckOutcome.CAUGHT


def test_a_run_that_says_nothing(player: Player, tmp_path: Path) -> None:
    """Neither caught nor survived: an error, with what was printed last."""
    player.answer(done(tmp_path)).answer(done(tmp_path, 3))
    assert player.result is not None
    assert player.result.outcome is CheckOutcome.ERROR
    assert player.result.detail == "first\nlast line"


# -- many at a time


def test_builds_and_runs_overlap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One build and one run at a time, each kind in its order."""
    script = tmp_path / "command"
    script.write_text(
        "#!/bin/sh\necho start $3 >> order\nwhile ! test -e go-$3; do sleep 0.02; done\n"
    )
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    monkeypatch.chdir(tmp_path)

    def task(name: str) -> Generator[Command, Done, str]:
        yield Command(lane=Lane.BUILD, name=f"{name}.build", arguments=(f"build-{name}",))
        ended = yield Command(lane=Lane.RUN, name=f"{name}.run", arguments=(f"run-{name}",))
        return f"{name} {ended.code}"

    for word in ("build-a", "build-b", "run-a", "run-b"):
        (tmp_path / f"go-{word}").touch()
    results = run_all(
        [task("a"), task("b")],
        tmp_path,
        runs=1,
        deadline=Deadline.after(30),
        environment=dict(os.environ),
    )
    assert list(results) == ["a 0", "b 0"]
    order = (tmp_path / "order").read_text().split()[1::2]
    assert order.index("build-a") < order.index("build-b")
    assert order.index("run-a") < order.index("run-b")


def test_children_end_with_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A deadline, as an interrupt does, leaves no child behind."""
    script = tmp_path / "command"
    script.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid\nexec sleep 1000\n")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))

    def task() -> Generator[Command, Done, None]:
        yield Command(lane=Lane.RUN, name="x", arguments=())

    with pytest.raises(HarnessError, match="time for these runs is up"):
        list(
            run_all(
                [task()],
                tmp_path,
                runs=1,
                deadline=Deadline.after(2),
                environment=dict(os.environ),
            )
        )
    pid = int((tmp_path / "pid").read_text())
    assert not Path(f"/proc/{pid}").exists()


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
    """With their diffs, as text; the equivalent one has its proof."""
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
    """What is no mutant at all is an error; a proven survivor is neither."""
    text = to_junit(report("mutants run", results()))
    assert text.count("<failure") == 1
    assert text.count("<error") == 1
    assert 'tests="4"' in text
