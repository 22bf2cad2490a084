# SPDX-License-Identifier: GPL-2.0-only
"""What is kept of test runs: results by kernel and test, and what a rule comes to by them."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
from typer.testing import CliRunner

from harness.behaviours.latest_results import History, on_kernel, outcome_of, seconds_of
from harness.behaviours.table import Rule, load_table
from harness.cli.app import app
from harness.deadline import Deadline
from harness.errors import UsageError
from harness.report.base import CheckOutcome, KernelFacts
from harness.report.suite_results import TestResult
from harness.tools.suite.behaviours import choose_kernels, result_of
from harness.vm.host.process import run

ROOT = Path(__file__).resolve().parents[2]
ONE, TWO = "force/test_force.py::test_one", "force/test_force.py::test_two"
RULE = Rule(id="FC-01", holds="it holds", source=("c99a2be7",), public=())


def facts(**fields: Any) -> KernelFacts:
    base = {
        "spec": "6.1",
        "version": "6.1.192",
        "digest": "d61",
        "config_digest": "c",
        "compiler": "gcc",
        "source": "linux-source-6.1",
    }
    return KernelFacts(**{**base, **fields})


KERNEL = facts()
OTHER = facts(spec="6.12", version="6.12.5", digest="d612", source="linux-source-6.12")


def result(test: str, outcome: str = "passed", **fields: Any) -> TestResult:
    fields = {"seconds": 1.0, "kernel_digest": KERNEL.digest, **fields}
    return TestResult(id=test, outcome=CheckOutcome(outcome), **fields)


@pytest.fixture
def history(tmp_path: Path) -> History:
    """An empty record, and a suite of one file."""
    suite = tmp_path / "suite"
    (suite / "force").mkdir(parents=True)
    (suite / "force" / "test_force.py").write_text("# as it was")
    return History(folder=tmp_path / "results", suite=suite)


def take(history: History, *results: TestResult, at: str = "2026-11-21T10:00:00+00:00") -> None:
    history.record(results, [KERNEL], at=at)


def outcome(history: History, *tests: str) -> CheckOutcome:
    (known,) = history.kernels()
    return on_kernel(RULE, tests, known).outcome


def test_nothing_is_known_at_first(history: History) -> None:
    """Without any run a rule was not run; it has not passed."""
    assert history.kernels() == ()
    assert result_of(RULE, [ONE], ()).outcome is CheckOutcome.NOT_RUN


@pytest.mark.parametrize("prefix", ["", "tests/behaviours/", "sub/tests/behaviours/"])
def test_a_result_is_kept_under_the_name_in_the_suite(history: History, prefix: str) -> None:
    """The same test has one name in a checkout and in an installed suite."""
    take(history, result(prefix + ONE))
    (known,) = history.kernels()
    assert list(known.tests) == [ONE]
    assert known.kernel == KERNEL
    assert outcome_of(ONE, known) is CheckOutcome.PASSED


def test_tests_of_others_are_left_out(history: History) -> None:
    """The harness's own tests, and a file that could not be read, prove no rule."""
    take(history, result("tests/unit/test_x.py::test_y"), result("force/test_force.py"))
    assert history.kernels() == ()


@pytest.mark.parametrize(
    ("first", "second", "of_rule"),
    [
        ("passed", "passed", "passed"),
        ("passed", "failed", "failed"),
        ("error", "failed", "failed"),
        ("passed", "error", "error"),
        ("passed", "expected-failure", "expected-failure"),
        ("passed", "skipped", "passed"),
        ("skipped", "skipped", "not-applicable"),
    ],
)
def test_a_rule_is_the_worst_of_its_tests(
    history: History, first: str, second: str, of_rule: str
) -> None:
    """In whatever order the tests are given; a skipped one hides nothing."""
    take(history, result(ONE, first), result(TWO, second))
    assert outcome(history, ONE, TWO) == of_rule
    assert outcome(history, TWO, ONE) == of_rule


def test_a_test_is_the_worst_of_its_parameters(history: History) -> None:
    """One failed parameter fails the test, whose time is that of all."""
    take(history, result(f"{ONE}[a]"), result(f"{ONE}[b]", "failed"), result(f"{ONE}[c]"))
    assert outcome(history, ONE) is CheckOutcome.FAILED
    (known,) = history.kernels()
    assert seconds_of([ONE], known) == 3.0


def test_a_test_that_did_not_run_is_no_pass(history: History) -> None:
    """Nor does it hide a failure of another."""
    take(history, result(ONE))
    (known,) = history.kernels()
    told = on_kernel(RULE, [ONE, TWO], known)
    assert told.outcome is CheckOutcome.NOT_RUN
    assert told.detail == "1 of its 2 tests did not run"
    take(history, result(ONE, "failed", detail="assert 0"))
    (known,) = history.kernels()
    told = on_kernel(RULE, [ONE, TWO], known)
    assert (told.outcome, told.detail) == (CheckOutcome.FAILED, "assert 0")


def test_a_later_run_changes_what_it_ran(history: History) -> None:
    """The results of other tests on that kernel stay."""
    take(history, result(ONE, "failed"), result(TWO))
    take(history, result(ONE), at="2026-11-21T11:00:00+00:00")
    assert outcome(history, ONE, TWO) is CheckOutcome.PASSED
    (known,) = history.kernels()
    assert known.tests[TWO].at == "2026-11-21T10:00:00+00:00"
    assert known.at == "2026-11-21T11:00:00+00:00"


def test_results_of_a_changed_file_are_dropped(history: History) -> None:
    """A pass of the test as it was says nothing on the test as it is."""
    take(history, result(ONE), result(TWO))
    (history.suite / "force" / "test_force.py").write_text("# as it is")
    take(history, result(ONE))
    assert outcome(history, ONE) is CheckOutcome.PASSED
    assert outcome(history, TWO) is CheckOutcome.NOT_RUN


def test_each_kernel_has_its_own_results(history: History) -> None:
    """The kernel's name among the parameters of a run with several is no parameter."""
    history.record(
        [
            result(f"{ONE}[6.1]"),
            result(f"{ONE}[6.12]", "failed", kernel_digest=OTHER.digest),
            result(f"{TWO}[6.12-a-b]", kernel_digest=OTHER.digest),
        ],
        [KERNEL, OTHER],
        at="2026-11-21T10:00:00+00:00",
    )
    known = {kernel.kernel.digest: kernel for kernel in history.kernels()}
    assert list(known["d61"].tests) == [ONE]
    assert list(known["d612"].tests) == [ONE, f"{TWO}[a-b]"]
    told = result_of(RULE, [ONE], history.kernels())
    assert told.outcome is CheckOutcome.FAILED
    assert {kernel.version: kernel.outcome.value for kernel in told.kernels} == {
        "6.1.192": "passed",
        "6.12.5": "failed",
    }


def test_a_kernel_with_more_options_counts_as_the_one_it_is_made_from(history: History) -> None:
    """Such a test is one of the rule's, on each kernel of the run."""
    for kernels in ([KERNEL], [KERNEL, OTHER]):
        history.record(
            [
                result(f"{ONE}[6.1+no-reliable-stack]", kernel_digest="more"),
                result(f"{TWO}[a-6.12+x+y]", "failed", kernel_digest="other"),
                result(f"{ONE}[5.10+x]", "failed", kernel_digest="unknown"),
            ],
            kernels,
            at="2026-11-21T10:00:00+00:00",
        )
    known = {kernel.kernel.digest: kernel for kernel in history.kernels()}
    assert outcome_of(ONE, known["d61"]) is CheckOutcome.PASSED
    assert list(known["d612"].tests) == [f"{TWO}[a]"]
    assert known.keys() == {"d61", "d612"}


def test_a_worker_that_crashed_has_the_runs_kernel(history: History) -> None:
    """With several kernels nobody knows which it was, and nothing is kept."""
    crashed = result(ONE, "error", kernel_digest=None)
    take(history, crashed)
    assert outcome(history, ONE) is CheckOutcome.ERROR
    history.record([crashed], [KERNEL, OTHER], at="2026-11-21T10:00:00+00:00")
    assert [kernel.kernel.digest for kernel in history.kernels()] == ["d61"]


def test_what_the_table_expects_is_told(history: History) -> None:
    """A pass where a failure is expected is shown beside what is expected."""
    rule = Rule.model_validate(
        {
            **RULE.model_dump(),
            "expect": [{"series": ["all"], "outcome": "expected-failure", "why": "a bug"}],
        }
    )
    take(history, result(ONE))
    (known,) = history.kernels()
    told = on_kernel(rule, [ONE], known)
    assert (told.outcome.value, told.expected.value) == ("passed", "expected-failure")


def test_a_damaged_record_is_begun_anew(history: History) -> None:
    """It is said, and nothing else stops for it."""
    take(history, result(ONE, "failed"))
    (path,) = history.folder.glob("*.json")
    path.write_text("{")
    assert history.kernels() == ()
    take(history, result(TWO))
    assert outcome(history, TWO) is CheckOutcome.PASSED


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        (None, ["d61", "d612"]),
        ("6.1", ["d61"]),
        ("6.1.192", ["d61"]),
        ("6.12", ["d612"]),
        ("abcdef", ["abcdef01"]),
        ("broken.patch", ["abcdef01"]),
    ],
)
def test_kernels_are_chosen(history: History, asked: str | None, found: list[str]) -> None:
    """With no wish, patched ones are left out: they are broken on purpose."""
    mutant = facts(spec="./linux", digest="abcdef01", source="linux-source-6.1 + broken.patch")
    for kernel in (KERNEL, OTHER, mutant):
        taken = result(ONE, kernel_digest=kernel.digest)
        history.record([taken], [kernel], at="2026-11-21T10:00:00+00:00")
    chosen = choose_kernels(history.kernels(), asked)
    assert {kernel.kernel.digest for kernel in chosen} == set(found)


def test_a_flavour_has_its_name_above_its_column(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two kernels of one version are told apart at a glance."""
    kept = History(folder=history.folder / "behaviours", suite=ROOT / "tests" / "behaviours")
    debug = facts(spec="6.1", digest="d61debug", source="linux-source-6.1 6.1.192-2, with debug")
    for kernel in (KERNEL, debug):
        kept.record(
            [result(ONE, kernel_digest=kernel.digest)], [kernel], at="2026-11-21T10:00:00+00:00"
        )
    monkeypatch.setenv("KLP_HARNESS_RUNS", str(history.folder))
    monkeypatch.setenv("COLUMNS", "120")
    told = CliRunner().invoke(app, ["behaviours"]).stdout
    heading = told.partition("Transition, per task")[0]
    assert heading.split().count("debug") == 1


def test_a_kernel_without_results_is_an_error(history: History) -> None:
    """The hint names the kernels that have results."""
    take(history, result(ONE))
    with pytest.raises(UsageError, match=r"no test has run on a kernel 5\.10") as raised:
        choose_kernels(history.kernels(), "5.10")
    assert "6.1.192" in (raised.value.hint or "")


def test_how_long_tests_took(history: History) -> None:
    """On the kernels of a run; where nothing ran on them, on the one that was tested last."""
    assert history.seconds(["d61"]) == {}
    take(history, result(ONE, seconds=3.0))
    history.record(
        [result(ONE, seconds=5.0, kernel_digest="d612"), result(TWO, kernel_digest="d612")],
        [OTHER],
        at="2026-11-21T11:00:00+00:00",
    )
    older, newer = history.folder / "d61.json", history.folder / "d612.json"
    os.utime(older, ns=(1, 1))
    assert history.seconds(["d61"]) == {ONE: 3.0}
    assert history.seconds(["new"]) == {ONE: 5.0, TWO: 1.0}
    newer.write_text("{")
    assert history.seconds(["d612"]) == {}
    assert history.seconds(["d612", "d61"]) == {ONE: 3.0}


def test_the_command_shows_every_rule(tmp_path: Path) -> None:
    """Away from any kernel and any result: each rule with its tests, as documented JSON."""
    done = run(
        [sys.executable, "-m", "harness.cli", "behaviours", "--json", "-"],
        cwd=ROOT,
        env={**os.environ, "KLP_HARNESS_RUNS": str(tmp_path)},
        deadline=Deadline.after(60),
    )
    report = json.loads(done.stdout)
    schema = json.loads((ROOT / "docs" / "results-schema.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(report)
    assert [each["id"] for each in report["results"]] == [rule.id for rule in load_table().rule]
    tests = {each["id"]: each["tests"] for each in report["results"]}
    assert tests["TR-01"] == ["transition/test_sleeper.py::test_sleeper_holds_the_transition"]
    assert {each["outcome"] for each in report["results"]} == {"not-run"}


def test_the_command_tells_one_rule(history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failure ends it with 1 and comes with its reason; a rule that is none is wrong usage."""
    name = "force/test_force.py::test_force_ends_a_blocked_transition"
    suite = ROOT / "tests" / "behaviours"
    kept = History(folder=history.folder / "behaviours", suite=suite)
    failed = result(name, "failed", detail="assert 0\nmore")
    kept.record([failed], [KERNEL], at="2026-11-21T10:00:00+00:00")
    monkeypatch.setenv("KLP_HARNESS_RUNS", str(history.folder))
    told = CliRunner().invoke(app, ["behaviours", "FC-01"])
    assert told.exit_code == 1
    assert f"failed           {name}" in told.stdout
    assert "assert 0\n" in told.stdout
    shown = json.loads(CliRunner().invoke(app, ["behaviours", "FC-01", "--json", "-"]).stdout)
    assert (shown["outcome"], shown["kernel"]["digest"]) == ("failed", KERNEL.digest)
    table = CliRunner().invoke(app, ["behaviours", "--kernel", "6.1"])
    assert "FC-01 failed, expected: passed; assert 0" in table.stdout
    # A narrow terminal takes the room from the sentences, not from what they are about.
    monkeypatch.setenv("COLUMNS", "50")
    narrow = CliRunner().invoke(app, ["behaviours", "--kernel", "6.1"]).stdout
    (row,) = (line for line in narrow.splitlines() if line.startswith("FC-01 "))
    assert row.split()[-1] == "failed"
    assert CliRunner().invoke(app, ["behaviours", "XX-01"]).exit_code == 2
