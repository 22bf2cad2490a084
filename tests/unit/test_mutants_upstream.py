# SPDX-License-Identifier: GPL-2.0-only
"""The outcome of the kernel's own selftests on a mutant, and how it is shown."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from harness.behaviours.mutants import read_mutant
from harness.cli.child_commands import Lane
from harness.report.base import CheckOutcome
from harness.report.terminal import Terminal
from harness.tools.mutants.conditions import Conditions
from harness.tools.mutants.mutant_trial import judge
from harness.tools.mutants.page import matrix_page
from harness.tools.mutants.results import MutantResult, UpstreamResult
from harness.tools.mutants.selftests_verdict import (
    amended_upstream,
    judge_upstream,
    run_selftests,
    without_broken_selftests,
)
from harness.tools.mutants.terminal import print_result, print_summary
from harness.tools.selftests.results import SelftestResult
from tests.unit.test_mutation import Commands, done, patch_file, report, result_of

if TYPE_CHECKING:
    from pathlib import Path

    from harness.report.base import BaseReport

ERROR = "ERROR: livepatch kselftest(s) failed"


def case(name: str, outcome: str = "passed", *detail: str) -> SelftestResult:
    """A case of the selftests, as `klp-harness selftests` reports it."""
    return SelftestResult(
        id=name,
        outcome=CheckOutcome(outcome),
        seconds=1.0,
        script=f"{name.partition('/')[0]}.sh",
        detail=detail,
    )


NOT_RUN = case("bpf/trampoline", "not-run")
HELD = (case("test-a/x"), case("test-b/y"), NOT_RUN)
BROKE = (case("test-a/x"), case("test-b/y", "failed", "noise", ERROR, "more"), NOT_RUN)


def selftest_report(results: tuple[SelftestResult, ...], fault: str | None = None) -> BaseReport:
    """A report of the selftests, with an error that ended them."""
    made = report("selftests", results, error="GuestPanic" if fault else None)
    if made.error is None:
        return made
    return made.model_copy(update={"error": made.error.model_copy(update={"fault": fault})})


@pytest.fixture
def conditions(tmp_path: Path) -> Conditions:
    """A run on 6.1 with one test and the selftests."""
    return Conditions(
        kernel=("--kernel", "6.1"),
        suite=tmp_path,
        carriers={"TR-01": ("t.py::one",)},
        accel="tcg",
        guests=3,
        selftests=True,
    )


@pytest.mark.parametrize("outcome", ["failed", "passed"])
def test_the_selftests_come_last(outcome: str, conditions: Conditions, tmp_path: Path) -> None:
    """They run on each mutant that was judged, caught or not, until the first failure."""
    tested = (result_of("t.py::one", outcome, "TR-01", detail="assert 0"),)
    run = Commands(
        done(tmp_path),
        done(tmp_path, 0, report("test", tested)),
        done(tmp_path, 1, selftest_report(BROKE)),
    )
    mutant = read_mutant(patch_file(tmp_path, "Breaks: TR-01"))
    result = judge(mutant, conditions, run)
    assert run.commands[2].lane is Lane.RUN
    assert run.lines[2].startswith(f"selftests --kernel 6.1 --patch {mutant.path} ")
    assert run.lines[2].endswith("--guests 3 --stop")
    assert result.upstream is not None
    assert result.upstream.failed == ("test-b/y",)
    assert result.outcome == {"failed": "caught", "passed": "survived"}[outcome]


def test_no_selftests_on_what_is_no_mutant(conditions: Conditions, tmp_path: Path) -> None:
    """They do not run on a patch that does not build, or whose tests gave no result."""
    mutant = read_mutant(patch_file(tmp_path))
    broken = done(tmp_path, 2, report("kernel build", error="KernelBuildFailed"))
    assert judge(mutant, conditions, Commands(broken)).upstream is None
    silent = judge(mutant, conditions, Commands(done(tmp_path), done(tmp_path, 3)))
    assert (silent.outcome, silent.upstream) == (CheckOutcome.ERROR, None)


def test_all_scripts_run_where_all_is_asked_for(conditions: Conditions) -> None:
    """With --all, and on the clean kernel, no script is left out after a failure."""
    patch = ("--patch", "m.patch")
    everything = replace(conditions, everything=True)
    assert "--stop" in run_selftests(conditions, name="m", patch=patch).arguments
    assert "--stop" not in run_selftests(everything, name="m", patch=patch).arguments
    clean = run_selftests(conditions, name="m", scripts={"test-b", "test-a"})
    assert clean.arguments[-2:] == ("test-a", "test-b")
    assert "--stop" not in clean.arguments


@pytest.mark.parametrize(
    ("results", "fault", "outcome", "detail"),
    [
        (HELD, None, "survived", None),
        (BROKE, None, "caught", ERROR),
        ((), "kernel", "error", "GuestPanic: it is GuestPanic"),
        (BROKE, "kernel", "caught", ERROR),
        (HELD[:1], "harness", "error", "GuestPanic: it is GuestPanic"),
        ((NOT_RUN,), None, "error", "first\nlast line"),
    ],
)
def test_what_the_selftests_came_to(
    results: tuple[SelftestResult, ...],
    fault: str | None,
    outcome: str,
    detail: str | None,
    tmp_path: Path,
) -> None:
    """Failed cases catch a mutant; a run that ended without one is an error, not a survivor."""
    upstream = judge_upstream(done(tmp_path, 1, selftest_report(results, fault)))
    assert (upstream.outcome, upstream.detail) == (outcome, detail)
    assert upstream.scripts == sum(one.outcome is not CheckOutcome.NOT_RUN for one in results)


def test_selftests_without_a_report(tmp_path: Path) -> None:
    """A run without a report is an error with its last lines."""
    upstream = judge_upstream(done(tmp_path, 3))
    assert (upstream.outcome, upstream.detail) == (CheckOutcome.ERROR, "first\nlast line")


def mutant_result(*failed: str) -> MutantResult:
    """A mutant that our tests caught, and the selftests in these cases."""
    return MutantResult(
        id="m",
        outcome=CheckOutcome.CAUGHT,
        seconds=1.0,
        upstream=UpstreamResult(
            outcome=CheckOutcome.CAUGHT if failed else CheckOutcome.SURVIVED, failed=failed
        ),
    )


def test_a_script_that_fails_on_the_clean_kernel_catches_nothing() -> None:
    """A script that fails there catches nothing with any of its cases; one that passes does."""
    both = mutant_result("test-a/x", "test-b/end")
    assert amended_upstream(both, {"test-a", "test-b"}) is both
    one = amended_upstream(both, {"test-b"}).upstream
    assert one is not None
    assert (one.outcome, one.failed, one.on_clean) == ("caught", ("test-b/end",), ("test-a/x",))
    none = amended_upstream(both, ()).upstream
    assert none is not None
    assert none.outcome is CheckOutcome.SURVIVED
    assert none.detail == (
        "only test-a/x, test-b/end failed, and the script fails on the clean kernel"
    )
    assert amended_upstream(mutant_result(), ()).upstream == mutant_result().upstream


@pytest.mark.parametrize(
    ("clean", "kept"),
    [
        (selftest_report(HELD), ("test-a/x", "test-b/y")),
        (selftest_report((*BROKE, case("test-b/z"))), ("test-a/x",)),
        (selftest_report(HELD, "harness"), ()),
        (None, ()),
    ],
)
def test_selftests_that_fail_on_the_clean_kernel_do_not_count(
    clean: BaseReport | None,
    kept: tuple[str, ...],
    conditions: Conditions,
    tmp_path: Path,
) -> None:
    """The scripts that failed on a mutant run on the clean kernel; an early end proves nothing."""
    run = Commands(done(tmp_path, 0, clean))
    [result] = without_broken_selftests([mutant_result("test-a/x", "test-b/y")], conditions, run)
    assert run.lines[0].endswith(" test-a test-b")
    assert result.upstream is not None
    assert result.upstream.failed == kept


def printed(*results: MutantResult) -> str:
    """What the terminal shows of them, and of all."""
    stream = io.StringIO()
    terminal = Terminal(stdout=stream, stderr=stream)
    for result in results:
        print_result(terminal, result)
    print_summary(terminal, results)
    return " ".join(stream.getvalue().split())


def test_the_comparison_is_printed() -> None:
    """The selftests' outcome is printed for each mutant and in total, and only where they ran."""
    text = printed(mutant_result("test-b/y"), mutant_result())
    assert "the kernel's own selftests: caught, 0 s test-b/y" in text
    assert text.endswith("2 mutants: 2 caught the kernel's own selftests: 1 of 2 caught")
    alone = mutant_result().model_copy(update={"upstream": None})
    assert "selftests" not in printed(alone)


def test_the_page_has_a_column() -> None:
    """The page has a column for the selftests if they ran, with "not run" where they did not."""
    alone = mutant_result().model_copy(update={"upstream": None})
    page = matrix_page([mutant_result("test-b/y"), mutant_result(), alone], "6.1")
    assert "<th>selftests</th>" in page
    assert '<td title="test-b/y">caught</td>' in page
    assert ">not run</td>" in page
    assert "1 of 2" in " ".join(page.split())
    assert "selftests" not in matrix_page([alone], "6.1")
